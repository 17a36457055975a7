"""Bonds, angles and torsions: energies and analytic forces on (3, n_atoms, B) coordinates.

Coordinates run over components, then atoms, then conformations, so that every operation works on long contiguous
rows. Forces are accumulated in place; NaN stays within its own conformation.
"""

from typing import Protocol

import torch
from torch import Tensor

from gibbsian.potentials.torch.workspace import Workspace


class Term(Protocol):
    """One block of terms: adds its energies (B,), float64, and forces (3, n_atoms, B)."""

    def add(self, x: Tensor, energy: Tensor, force: Tensor, work: Workspace) -> None: ...


def gather(x: Tensor, index: Tensor, work: Workspace, name: str) -> Tensor:
    """Select rows of (3, n_atoms, B), one component at a time to stay within the cache and below torch's threading."""
    out = work(name, 3, len(index), x.shape[2])
    for component in range(3):
        torch.index_select(x[component], 0, index, out=out[component])
    return out


def scatter(force: Tensor, index: Tensor, values: Tensor) -> None:
    """Add rows of (3, n, B) to the atoms they belong to."""
    for component in range(3):
        force[component].index_add_(0, index, values[component])


def dot(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Scalar products of (3, n, B) vectors."""
    torch.mul(a[0], b[0], out=out)
    return out.addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


class Bonds:
    """k/2 (r - r0)^2."""

    def __init__(self, atoms: Tensor, values: Tensor):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.length, self.k = values.T.unsqueeze(2).contiguous().unbind(0)

    def add(self, x: Tensor, energy: Tensor, force: Tensor, work: Workspace) -> None:
        """Add energies and forces."""
        n, batch = self.n, x.shape[2]
        ends = gather(x, self.index, work, "ends")
        d = torch.sub(ends[:, :n], ends[:, n:], out=work("vector0", 3, n, batch))
        r = dot(d, d, work("scalar0", n, batch)).sqrt_()
        stretch = torch.sub(r, self.length, out=work("scalar1", n, batch))
        slope = torch.mul(stretch, self.k, out=work("scalar2", n, batch))
        energy.add_(torch.mul(stretch, slope, out=stretch).sum(0, dtype=torch.float64), alpha=0.5)
        slope.div_(r.clamp_(min=_tiny(r)))
        torch.mul(d, slope, out=ends[:, n:])
        torch.neg(ends[:, n:], out=ends[:, :n])
        scatter(force, self.index, ends)


class Angles:
    """k/2 (theta - theta0)^2."""

    def __init__(self, atoms: Tensor, values: Tensor):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.theta, self.k = values.T.unsqueeze(2).contiguous().unbind(0)

    def add(self, x: Tensor, energy: Tensor, force: Tensor, work: Workspace) -> None:
        """Add energies and forces."""
        n, batch = self.n, x.shape[2]
        ends = gather(x, self.index, work, "ends")
        u = torch.sub(ends[:, :n], ends[:, n : 2 * n], out=work("vector0", 3, n, batch))
        v = torch.sub(ends[:, 2 * n :], ends[:, n : 2 * n], out=work("vector1", 3, n, batch))
        normal = torch.linalg.cross(u, v, dim=0, out=work("vector2", 3, n, batch))
        sine = dot(normal, normal, work("scalar0", n, batch)).sqrt_()
        cosine = dot(u, v, work("scalar1", n, batch))
        bend = torch.atan2(sine, cosine, out=work("scalar2", n, batch)).sub_(self.theta)
        slope = torch.mul(bend, self.k, out=work("scalar3", n, batch))
        energy.add_(torch.mul(bend, slope, out=bend).sum(0, dtype=torch.float64), alpha=0.5)
        # d theta/d u = (u x n)/(|u|^2 |n|) and d theta/d v = (n x v)/(|v|^2 |n|); |n| = 0 has no direction to push in.
        slope.div_(sine.clamp_(min=_tiny(sine)))
        first, last = ends[:, :n], ends[:, 2 * n :]
        for arm, out, sign in ((u, first, -1.0), (v, last, 1.0)):
            length2 = dot(arm, arm, bend).clamp_(min=_tiny(bend))
            factor = torch.div(slope, length2, out=length2).mul_(-sign)
            turned = torch.linalg.cross(normal, arm, dim=0, out=work("vector3", 3, n, batch))
            torch.mul(turned, factor, out=out)
        torch.add(first, last, out=ends[:, n : 2 * n]).neg_()
        scatter(force, self.index, ends)


class Torsions:
    """P(cos phi) + sin phi Q(cos phi) and correction maps over pairs of torsions.

    Formulas of Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), without singularity for planar torsions. The
    normals are clamped, so that collinear atoms give finite forces.
    """

    def __init__(self, atoms: Tensor, even: Tensor, odd: Tensor, maps: "Maps | None" = None):
        self.n = len(atoms)
        self.index = atoms.T.reshape(-1).contiguous()
        self.even = even.unsqueeze(2).contiguous()
        self.odd = odd.unsqueeze(2).contiguous()
        self.maps = maps

    def add(self, x: Tensor, energy: Tensor, force: Tensor, work: Workspace) -> None:
        """Add energies and forces."""
        n, batch = self.n, x.shape[2]
        ends = gather(x, self.index, work, "ends")
        i, j, k, l = (ends[:, m * n : (m + 1) * n] for m in range(4))  # noqa: E741
        f = torch.sub(i, j, out=work("vector0", 3, n, batch))
        g = torch.sub(j, k, out=work("vector1", 3, n, batch))
        h = torch.sub(l, k, out=work("vector2", 3, n, batch))
        a = torch.linalg.cross(f, g, dim=0, out=work("vector3", 3, n, batch))
        b = torch.linalg.cross(h, g, dim=0, out=work("vector4", 3, n, batch))
        a2 = dot(a, a, work("scalar0", n, batch)).clamp_(min=_tiny(f) ** 2)
        b2 = dot(b, b, work("scalar1", n, batch)).clamp_(min=_tiny(f) ** 2)
        g1 = dot(g, g, work("scalar2", n, batch)).clamp_(min=_tiny(f) ** 2).sqrt_()
        inverse = torch.mul(a2, b2, out=work("scalar3", n, batch)).rsqrt_()
        cosine = dot(a, b, work("scalar4", n, batch)).mul_(inverse)
        sine = dot(f, b, work("scalar5", n, batch)).mul_(inverse).mul_(g1).neg_()
        slope = self._slope(cosine, sine, energy, work)
        # dE/df = -|g|/a^2 a dE/dphi, dE/dh = |g|/b^2 b dE/dphi, and g gets what keeps the torque zero.
        ai = torch.div(slope, a2, out=a2)
        bi = torch.div(slope, b2, out=b2)
        fg, hg = dot(f, g, inverse).div_(g1), dot(h, g, cosine).div_(g1)
        torch.mul(a, fg.mul_(ai), out=f)
        torch.mul(b, hg.mul_(bi), out=h)
        middle = f.sub_(h)
        torch.mul(a, ai.mul_(g1), out=i)
        torch.mul(b, bi.mul_(g1), out=l).neg_()
        torch.add(i, middle, out=j).neg_()
        torch.sub(middle, l, out=k)
        scatter(force, self.index, ends)

    def _slope(self, cosine: Tensor, sine: Tensor, energy: Tensor, work: Workspace) -> Tensor:
        """Add the energies; return dE/dphi."""
        value, derivative = _horner(self.even, cosine, work, "even")
        slope = derivative.mul_(sine).neg_()
        if len(self.odd):
            odd, odd_derivative = _horner(self.odd, cosine, work, "odd")
            value.addcmul_(sine, odd)
            slope.addcmul_(cosine, odd)
            slope.addcmul_(odd_derivative.mul_(sine), sine, value=-1.0)
        energy.add_(value.sum(0, dtype=torch.float64))
        if self.maps is not None:
            self.maps.add(torch.atan2(sine, cosine), energy, slope)
        return slope


def _horner(coefficients: Tensor, c: Tensor, work: Workspace, name: str) -> tuple[Tensor, Tensor]:
    """Value and derivative of polynomials, (degree + 1, n, 1) coefficients at (n, B)."""
    value = work(f"{name} value", *c.shape).copy_(coefficients[-1])
    derivative = work(f"{name} derivative", *c.shape).zero_()
    for coefficient in reversed(coefficients[:-1]):
        derivative.mul_(c).add_(value)
        value.mul_(c).add_(coefficient)
    return value, derivative


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


def _tiny(x: Tensor) -> float:
    """Length (nm) or sine below which a direction is not defined."""
    return 1e-6 if x.dtype == torch.float32 else 1e-10
