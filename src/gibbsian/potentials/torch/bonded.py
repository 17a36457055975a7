"""Bonds, angles and torsions: energies and analytic forces of one workspace's coordinates.

Forces are accumulated in place; NaN stays within its own conformation.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from gibbsian.potentials.torch.workspace import Scatter, Workspace


class Term(Protocol):
    """One block of terms."""

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies at `work.x` to (B,) float64 `energy`, and forces to `work.force`."""
        ...


class _Plan:
    """Scratch of one block of n terms on m atoms each: the atoms' places, difference vectors and scalars."""

    def __init__(self, work: Workspace, n: int, m: int, n_vectors: int, n_scalars: int):
        # One more row, which stays zero, pads the scattering.
        self.ends = work.vectors(f"ends {m} of {n}", m * n + 1)
        self.ends.all[:, m * n :].zero_()
        self.atoms = [self.ends.all[:, k * n : (k + 1) * n] for k in range(m)]
        self.vectors = [work.vectors(f"vector{k}", n) for k in range(n_vectors)]
        self.scalars = [work.scalars(f"scalar{k}", n) for k in range(n_scalars)]


class Bonds:
    """k/2 (r - r0)^2."""

    def __init__(self, atoms: Tensor, values: Tensor, n_atoms: int, rows: int):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.scatter = Scatter(self.index, n_atoms, rows)
        self.length, self.k = values.T.unsqueeze(2).contiguous().unbind(0)

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies and forces."""
        plan = work.plan(self, lambda work: _Plan(work, self.n, 2, 1, 3))
        (i, j), (d,), (r, stretch, slope) = plan.atoms, plan.vectors, plan.scalars
        work.x.gather(self.index, plan.ends)
        torch.sub(i, j, out=d.all)
        root(d.dot(d, r), stretch)
        torch.sub(r, self.length, out=stretch)
        torch.mul(stretch, self.k, out=slope)
        energy.add_(stretch.mul_(slope).sum(0, dtype=torch.float64), alpha=0.5)
        slope.div_(r.clamp_(min=_tiny(r)))
        torch.mul(d.all, slope, out=j)
        torch.neg(j, out=i)
        self.scatter.add(plan.ends, work)


class Angles:
    """k/2 (theta - theta0)^2."""

    def __init__(self, atoms: Tensor, values: Tensor, n_atoms: int, rows: int):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.scatter = Scatter(self.index, n_atoms, rows)
        self.theta, self.k = values.T.unsqueeze(2).contiguous().unbind(0)

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies and forces."""
        plan = work.plan(self, lambda work: _Plan(work, self.n, 3, 4, 4))
        first, middle, last = plan.atoms
        u, v, normal, turned = plan.vectors
        sine, cosine, bend, slope = plan.scalars
        work.x.gather(self.index, plan.ends)
        torch.sub(first, middle, out=u.all)
        torch.sub(last, middle, out=v.all)
        u.cross(v, normal)
        root(normal.dot(normal, sine), bend)
        u.dot(v, cosine)
        torch.atan2(sine, cosine, out=bend).sub_(self.theta)
        torch.mul(bend, self.k, out=slope)
        energy.add_(bend.mul_(slope).sum(0, dtype=torch.float64), alpha=0.5)
        # d theta/d u = u x n/(|u|^2 |n|) and d theta/d v = n x v/(|v|^2 |n|); |n| = 0 gives no direction.
        slope.div_(sine.clamp_(min=_tiny(sine)))
        for arm, out in ((u, first), (v, last)):
            arm.dot(arm, bend).clamp_(min=_tiny(bend))
            torch.div(slope, bend, out=bend)
            normal.cross(arm, turned)
            torch.mul(turned.all, bend, out=out)
        last.neg_()
        torch.add(first, last, out=middle).neg_()
        self.scatter.add(plan.ends, work)


class Dihedrals(ABC):
    """Functions of the angles between the planes (i, j, k) and (j, k, l).

    Formulas of Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), without singularity for planar torsions.
    The normals are clamped, so that collinear atoms give finite forces.
    """

    def __init__(self, atoms: Tensor, n_atoms: int, rows: int):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.scatter = Scatter(self.index, n_atoms, rows)

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies and forces."""
        plan = work.plan(self, lambda work: _Plan(work, self.n, 4, 5, 10))
        i, j, k, l = plan.atoms  # noqa: E741
        f, g, h, a, b = plan.vectors
        a2, b2, g1, inverse, cosine, sine, *rest = plan.scalars
        work.x.gather(self.index, plan.ends)
        torch.sub(i, j, out=f.all)
        torch.sub(j, k, out=g.all)
        torch.sub(l, k, out=h.all)
        f.cross(g, a)
        h.cross(g, b)
        tiny = _tiny(a2) ** 2
        a.dot(a, a2).clamp_(min=tiny)
        b.dot(b, b2).clamp_(min=tiny)
        root(g.dot(g, g1).clamp_(min=tiny), inverse)
        torch.mul(a2, b2, out=inverse).rsqrt_()
        a.dot(b, cosine).mul_(inverse)
        f.dot(b, sine).mul_(inverse).mul_(g1).neg_()
        slope = self.slope(cosine, sine, energy, rest)
        # dE/df = -|g|/a^2 a dE/dphi, dE/dh = |g|/b^2 b dE/dphi, and g gets what keeps the torque zero.
        ai, bi = torch.div(slope, a2, out=a2), torch.div(slope, b2, out=b2)
        fg, hg = f.dot(g, inverse).div_(g1), h.dot(g, cosine).div_(g1)
        torch.mul(a.all, fg.mul_(ai), out=f.all)
        torch.mul(b.all, hg.mul_(bi), out=h.all)
        middle = f.all.sub_(h.all)
        torch.mul(a.all, ai.mul_(g1), out=i)
        torch.mul(b.all, bi.mul_(g1), out=l).neg_()
        torch.add(i, middle, out=j).neg_()
        torch.sub(middle, l, out=k)
        self.scatter.add(plan.ends, work)

    @abstractmethod
    def slope(self, cosine: Tensor, sine: Tensor, energy: Tensor, rest: list[Tensor]) -> Tensor:
        """Add the energies at cos phi and sin phi, (n, B); return dE/dphi, which may be one of the scratch `rest`."""


class Torsions(Dihedrals):
    """P(cos phi) + sin phi Q(cos phi) and correction maps over pairs of torsions."""

    def __init__(self, atoms: Tensor, even: Tensor, odd: Tensor, maps: "Maps | None", n_atoms: int, rows: int):
        super().__init__(atoms, n_atoms, rows)
        self.even = even.flip(0).unsqueeze(2).contiguous().unbind(0)
        self.odd = odd.flip(0).unsqueeze(2).contiguous().unbind(0)
        self.maps = maps

    def slope(self, cosine: Tensor, sine: Tensor, energy: Tensor, rest: list[Tensor]) -> Tensor:
        """Add the energies; return dE/dphi."""
        value, slope = _horner(self.even, cosine, rest[0], rest[1])
        slope.mul_(sine).neg_()
        if self.odd:
            odd, odd_slope = _horner(self.odd, cosine, rest[2], rest[3])
            value.addcmul_(sine, odd)
            slope.addcmul_(cosine, odd)
            slope.addcmul_(odd_slope.mul_(sine), sine, value=-1.0)
        energy.add_(value.sum(0, dtype=torch.float64))
        if self.maps is not None:
            self.maps.add(torch.atan2(sine, cosine), energy, slope)
        return slope


class Impropers(Dihedrals):
    """k d^2, where d is phi - phi0 the shorter way around (no factor 1/2, as in CHARMM)."""

    def __init__(self, atoms: Tensor, values: Tensor, n_atoms: int, rows: int):
        super().__init__(atoms, n_atoms, rows)
        self.phi, self.k = values.T.unsqueeze(2).contiguous().unbind(0)

    def slope(self, cosine: Tensor, sine: Tensor, energy: Tensor, rest: list[Tensor]) -> Tensor:
        """Add the energies; return dE/dphi."""
        d, slope = rest[:2]
        wrapped(torch.atan2(sine, cosine, out=d).sub_(self.phi), slope)
        torch.mul(d, self.k, out=slope)
        energy.add_(d.mul_(slope).sum(0, dtype=torch.float64))
        return slope.mul_(2.0)


def wrapped(angle: Tensor, turns: Tensor) -> Tensor:
    """Bring angles into [-pi, pi] in place, with scratch of their shape."""
    torch.mul(angle, 1 / (2 * torch.pi), out=turns).round_()
    return angle.sub_(turns, alpha=2 * torch.pi)


def _horner(coefficients: tuple[Tensor, ...], c: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative at (n, B) of polynomials whose (n, 1) coefficients come highest first."""
    value.copy_(coefficients[0].expand_as(c))
    slope.zero_()
    for number, coefficient in enumerate(coefficients[1:]):
        slope.copy_(value) if number == 0 else slope.mul_(c).add_(value)
        value.mul_(c).add_(coefficient)
    return value, slope


class Maps:
    """Bicubic correction maps over two torsions."""

    def __init__(self, patches: list[Tensor], index: Tensor, pairs: Tensor):
        sizes = [len(patch) for patch in patches]
        starts = torch.tensor([0, *sizes[:-1]]).square().cumsum(0)
        device = index.device
        self.coefficients = torch.cat([patch.reshape(-1, 16) for patch in patches])
        self.size = torch.tensor(sizes, device=device)[index, None]
        self.start = starts.to(device)[index, None]
        self.first, self.second = pairs.T.contiguous()

    def value(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Energies (n, B) at angles (n_torsions, B), their two partial derivatives, and the cell size."""
        scale = self.size.to(phi.dtype) / (2 * torch.pi)
        cells, fractions = [], []
        for rows in (self.first, self.second):
            place = (phi[rows] * scale).remainder(self.size)
            cell = place.detach().nan_to_num(0.0).long().clamp(max=self.size - 1)
            cells.append(cell)
            fractions.append(place - cell)
        c = self.coefficients[self.start + cells[0] * self.size + cells[1]].unflatten(-1, (4, 4))
        u, v = (fraction.unsqueeze(-1) for fraction in fractions)
        powers_u = torch.cat([torch.ones_like(u), u, u * u, u * u * u], -1)
        powers_v = torch.cat([torch.ones_like(v), v, v * v, v * v * v], -1)
        slopes_u = torch.cat([torch.zeros_like(u), torch.ones_like(u), 2 * u, 3 * u * u], -1)
        slopes_v = torch.cat([torch.zeros_like(v), torch.ones_like(v), 2 * v, 3 * v * v], -1)
        along_v = torch.einsum("nbij,nbj->nbi", c, powers_v)
        value = (along_v * powers_u).sum(-1)
        by_first = (along_v * slopes_u).sum(-1)
        by_second = (torch.einsum("nbij,nbj->nbi", c, slopes_v) * powers_u).sum(-1)
        return value, by_first, by_second, scale

    def add(self, phi: Tensor, energy: Tensor, slope: Tensor) -> None:
        """Add energies (B,) and dE/dphi (n_torsions, B)."""
        value, by_first, by_second, scale = self.value(phi)
        energy.add_(value.sum(0, dtype=torch.float64))
        slope.index_add_(0, self.first, by_first * scale)
        slope.index_add_(0, self.second, by_second * scale)


def root(x: Tensor, scratch: Tensor) -> Tensor:
    """Take the square root in place."""
    return x.mul_(torch.rsqrt(x.clamp_(min=_tiny(x) ** 4), out=scratch))


def _tiny(x: Tensor) -> float:
    """Length (nm) or sine below which a direction is not defined."""
    return 1e-6 if x.dtype == torch.float32 else 1e-10
