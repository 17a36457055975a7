"""The energy once more in plain differentiable operations, for second derivatives and to check the kernels."""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.born import ACE_PROBE, Born
from gibbsian.chem.parameters import Parameters
from gibbsian.potentials.coefficients import pair_table, spline_patches, torsion_table
from gibbsian.potentials.torch.bonded import Maps


class PlainEnergy:
    """Energy of (B, n_atoms, 3) in kJ/mol; slower than the kernels, differentiable any number of times."""

    def __init__(self, parameters: Parameters, dtype: torch.dtype, device: torch.device):
        self.parameters = parameters
        self.torsions = torsion_table(parameters)
        i, j = np.triu_indices(parameters.n_atoms, 1)
        self.pairs = pair_table(parameters.nonbonded, i, j) if parameters.nonbonded else None
        self.dtype, self.device = dtype, device
        self.maps = None
        if parameters.cmap is not None:
            patches = [self._tensor(patch) for patch in spline_patches(parameters.cmap)]
            index, rows = (self._index(values) for values in (parameters.cmap.index, self.torsions.cmap))
            self.maps = Maps(patches, index, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """Energy (B,), float64."""
        x = x.to(self.dtype)
        energy = self._bonded(x)
        n = self.parameters.n_atoms
        if n > 1 and (self.pairs is not None or self.parameters.born is not None):
            i, j = torch.triu_indices(n, n, 1, device=self.device)
            r = (x[:, i] - x[:, j]).square().sum(-1).clamp(min=1e-12).sqrt()
            energy = energy + self._direct(r)
            if self.parameters.born is not None:
                energy = energy + self._born(self.parameters.born, r, i, j)
        return energy

    def _tensor(self, values: object) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _index(self, values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=self.device)

    def _bonded(self, x: Tensor) -> Tensor:
        parameters = self.parameters
        i, j = self._index(parameters.bonds.atoms).T
        length, k = self._tensor(parameters.bonds.values).T
        energy = (0.5 * k * (_norm(x[:, i] - x[:, j]) - length).square()).sum(1, dtype=torch.float64)
        i, j, k3 = self._index(parameters.angles.atoms).T
        theta, k = self._tensor(parameters.angles.values).T
        u, v = x[:, i] - x[:, j], x[:, k3] - x[:, j]
        bend = torch.atan2(_norm(torch.linalg.cross(u, v)), (u * v).sum(-1)) - theta
        energy = energy + (0.5 * k * bend.square()).sum(1, dtype=torch.float64)
        cosine, sine = _dihedral(x, self._index(self.torsions.atoms))
        value = torch.zeros_like(cosine)
        for n, even in enumerate(self._tensor(self.torsions.even)):
            value = value + even * cosine**n
        for n, odd in enumerate(self._tensor(self.torsions.odd)):
            value = value + odd * sine * cosine**n
        energy = energy + value.sum(1, dtype=torch.float64)
        if self.maps is not None:
            energy = energy + self.maps.value(_angle(cosine, sine).T)[0].sum(0, dtype=torch.float64)
        return energy + self._impropers(x)

    def _impropers(self, x: Tensor) -> Tensor:
        phi, k = self._tensor(self.parameters.impropers.values).T
        d = _angle(*_dihedral(x, self._index(self.parameters.impropers.atoms))) - phi
        d = d - 2 * torch.pi * (d.detach() / (2 * torch.pi)).round()
        return (k * d.square()).sum(1, dtype=torch.float64)

    def _direct(self, r: Tensor) -> Tensor:
        if self.pairs is None:
            return r.new_zeros(len(r), dtype=torch.float64)
        charge, a, b, cutoff, field, shift = (
            self._tensor(values) for values in [getattr(self.pairs, item.name) for item in fields(self.pairs)][2:]
        )
        value = charge * (1 / r + field * r.square() - shift) + (a * r**-6 - b) * r**-6
        return value.masked_fill(r > cutoff, 0.0).sum(1, dtype=torch.float64)

    def _born(self, born: Born, r: Tensor, i: Tensor, j: Tensor) -> Tensor:
        offset_radius, charge = self._tensor(born.offset_radii), self._tensor(born.charges)
        radius = offset_radius + born.offset
        beyond = torch.zeros_like(r, dtype=torch.bool) if born.cutoff is None else r > born.cutoff
        sums = r.new_zeros(len(r), self.parameters.n_atoms)
        for p, q in ((i, j), (j, i)):
            sums = sums.index_add(1, p, self._integral(born, r, p, q).masked_fill(beyond, 0.0))
        if born.tanh is None:
            b = 1 / (1 / offset_radius - sums)
        else:
            alpha, beta, gamma = self._tensor(born.tanh).T
            psi = sums * offset_radius
            b = 1 / (1 / offset_radius - torch.tanh(((gamma * psi - beta) * psi + alpha) * psi) / radius)

        def screening(distance: Tensor) -> Tensor:
            return 1 / born.solute_dielectric - torch.exp(-born.kappa * distance) / born.solvent_dielectric

        atoms = -0.5 * born.coulomb * charge.square() * screening(b) / b
        atoms = atoms + born.surface * (radius + ACE_PROBE) ** 2 * (radius / b) ** 6
        b2 = b[:, i] * b[:, j]
        f = (r.square() + b2 * torch.exp(-0.25 * r.square() / b2)).sqrt()
        inverse = 1 / f - (1 / born.cutoff if born.cutoff else 0.0)
        value = (-born.coulomb * charge[i] * charge[j] * screening(f) * inverse).masked_fill(beyond, 0.0)
        return atoms.sum(1, dtype=torch.float64) + value.sum(1, dtype=torch.float64)

    def _integral(self, born: Born, r: Tensor, p: Tensor, q: Tensor) -> Tensor:
        radius, s = self._tensor(born.offset_radii)[p], self._tensor(born.scaled_radii)[q]
        upper = torch.maximum(r + s, radius)
        lower = torch.maximum((r - s).abs(), radius)
        value = 0.5 * (
            1 / lower
            - 1 / upper
            + 0.25 * (r - s * s / r) * (upper**-2 - lower**-2)
            + 0.5 * torch.log(lower / upper) / r
        )
        if born.engulfed_term:
            value = value + torch.where(r < s - radius, 1 / radius - 1 / lower, 0.0)
        value = value.masked_fill(r + s < radius, 0.0)
        if born.neck is None:
            return value
        d = r - self._tensor(born.neck.distance)[p, q]
        neck = born.neck.scale * self._tensor(born.neck.height)[p, q] / (1 + 100 * d**2 + 3e5 * d**6)
        reach = radius + self._tensor(born.offset_radii)[q] + 2 * born.offset + born.neck.cut
        return value + neck.masked_fill(r > reach, 0.0)


def _norm(v: Tensor) -> Tensor:
    return v.square().sum(-1).clamp(min=1e-24).sqrt()


def _dihedral(x: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of dihedral angles, (B, n); both zero for collinear atoms."""
    a, b, c, d = atoms.T
    f, g, h = x[:, a] - x[:, b], x[:, b] - x[:, c], x[:, d] - x[:, c]
    first, second = torch.linalg.cross(f, g), torch.linalg.cross(h, g)
    smallest = 1e-40 ** (x.dtype.itemsize / 8)
    size = (first.square().sum(-1) * second.square().sum(-1)).clamp(min=smallest)
    return (first * second).sum(-1) / size.sqrt(), -(f * second).sum(-1) * _norm(g) / size.sqrt()


def _angle(cosine: Tensor, sine: Tensor) -> Tensor:
    """Angle in (-pi, pi]; zero, with a gradient, where neither is defined."""
    return torch.atan2(sine, cosine.masked_fill((cosine == 0) & (sine == 0), 1.0))
