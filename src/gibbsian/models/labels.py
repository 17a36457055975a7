"""One labelling out of the equivalent ones: the hydrogens of methyl and ammonium groups turn three-fold.

A density over all labellings has three equal peaks for each group. A flow that is trained on one labelling has one, and
``q(x) = q_one(relabelled x) / n`` with n labellings in all. Draws outside of the chosen domain have no density.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gibbsian.chem.residues import Symmetry, symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.zmatrix import build_zmatrix

EXACT = ("methyl", "ammonium")
"""Groups whose relabelling changes no energy at all; two-fold swaps change Amber's impropers a little."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Which labelling is meant: that whose first hydrogen has its torsion nearest to a reference.

    Attributes
    ----------
    groups
        Groups of three hydrogens.
    bonds
        (g, 3) atoms a, b, c that the torsions of a group's hydrogens are measured from.
    reference
        (g,) torsions in rad at the middle of the domain.
    """

    groups: tuple[Symmetry, ...]
    bonds: Tensor
    reference: Tensor

    @classmethod
    def from_data(cls, topology: Topology, x: Tensor, weights: Tensor) -> Self:
        """Take the references that weighted conformations (m, n, 3) nm are gathered around, three-fold."""
        groups = tuple(group for group in symmetry_groups(topology) if group.name in EXACT)
        bonds = _bonds(topology, groups)
        labels = cls(groups, bonds, torch.zeros(len(groups), dtype=torch.float64))
        angles = 3.0 * labels._torsions(x.double())[..., 0]
        mean = torch.atan2(weights @ torch.sin(angles), weights @ torch.cos(angles))
        return cls(groups, bonds, mean / 3.0)

    @classmethod
    def stored(cls, topology: Topology, reference: Tensor) -> Self:
        """Rebuild from `reference`."""
        groups = tuple(group for group in symmetry_groups(topology) if group.name in EXACT)
        return cls(groups, _bonds(topology, groups), reference)

    @property
    def log_number(self) -> float:
        """Logarithm of the number of labellings."""
        return len(self.groups) * math.log(3.0)

    def relabelled(self, x: Tensor) -> Tensor:
        """Relabel conformations `x` (B, n, 3) to the one labelling."""
        index = torch.arange(x.shape[1], device=x.device).repeat(len(x), 1)
        for group, choice in zip(self.groups, self._choices(x).unbind(1), strict=True):
            index[:, list(group.atoms)] = torch.tensor(group.permutations, device=x.device)[choice]
        return x.gather(1, index[..., None].expand(-1, -1, 3))

    def hold(self, x: Tensor) -> Tensor:
        """Whether conformations (B, n, 3) have that labelling, (B,) bool."""
        return (self._choices(x) == 0).all(1)

    def _choices(self, x: Tensor) -> Tensor:
        """Which relabelling of each group leads there, (B, g)."""
        return torch.cos(self._torsions(x.detach()) - self.reference[:, None].to(x)).argmax(2)

    def _torsions(self, x: Tensor) -> Tensor:
        """Torsions (B, g, 3) in rad of each group's hydrogens about the bond that holds them."""
        hydrogens = torch.tensor([group.atoms for group in self.groups], dtype=torch.long).reshape(-1, 3)
        x_a, x_b, x_c = (x[:, atoms] for atoms in self.bonds.unbind(1))
        axis = x_a - x_b
        axis = (axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True))[:, :, None]
        near = torch.linalg.cross(axis, x[:, hydrogens] - x_a[:, :, None])
        far = torch.linalg.cross(axis, (x_c - x_b)[:, :, None].expand_as(near))
        return torch.atan2((torch.linalg.cross(far, near) * axis).sum(-1), (near * far).sum(-1))


def _bonds(topology: Topology, groups: tuple[Symmetry, ...]) -> Tensor:
    zmatrix = build_zmatrix(topology)
    rows = {int(atom): row for atom, row in zip(zmatrix.atoms, zmatrix.references, strict=True)}
    place = {int(atom): k for k, atom in enumerate(zmatrix.atoms)}
    found = [rows[min(group.atoms, key=place.__getitem__)].tolist() for group in groups]
    return torch.tensor(found, dtype=torch.long).reshape(-1, 3)
