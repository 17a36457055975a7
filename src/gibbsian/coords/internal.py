"""Internal coordinates: bonds, angles and torsions of a whole molecule, both ways, with the exact Jacobian."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import local_axes
from gibbsian.coords.zmatrix import ZMatrix, build_zmatrix

LOG_8_PI_SQUARED = math.log(8.0 * math.pi**2)


class Internal(NamedTuple):
    """Bonds (B, n-1) in nm, angles (B, n-2) in (0, pi), torsions (B, n-3) in (-pi, pi], in placement order."""

    bonds: Tensor
    angles: Tensor
    torsions: Tensor


def wrap(angle: Tensor) -> Tensor:
    """Bring angles to (-pi, pi]."""
    return math.pi - torch.remainder(math.pi - angle, 2.0 * math.pi)


def log_jacobian(y: Internal) -> Tensor:
    """Log volume element, (B,): ``log |dx / d(b, a, t)| = sum 2 log b + sum log sin a`` with the pose removed.

    The rotation and translation integrate to the constant ``log 8 pi^2 V``; see `mean_free_constant`.
    """
    return 2.0 * torch.log(y.bonds).sum(-1) + torch.log(torch.sin(y.angles)).sum(-1)


def mean_free_constant(n_atoms: int) -> float:
    """``log 8 pi^2 - (3/2) log n``: log Z in the mean-free orthonormal measure minus log Z over (b, a, t) with J."""
    return LOG_8_PI_SQUARED - 1.5 * math.log(n_atoms)


class InternalCoordinates:
    """Bijection between conformations without pose and internal coordinates.

    Angles come from ``atan2`` of cross and dot products; atoms that do not depend on each other are placed
    together. Every torsion of kind ``delta`` is the azimuth relative to a sibling, so its sign is the handedness.

    Parameters
    ----------
    topology
        Molecule; the Z-matrix is built from its bonds and names.
    """

    def __init__(self, topology: Topology) -> None:
        self.zmatrix: ZMatrix = build_zmatrix(topology)
        self.n_atoms = topology.n_atoms
        self._atoms = torch.from_numpy(self.zmatrix.atoms)
        self._references = torch.from_numpy(self.zmatrix.references)
        self._stages, self._placed = _plan(self.zmatrix)

    def forward(self, x: Tensor) -> tuple[Internal, Tensor]:
        """Return the internal coordinates of `x` (B, n, 3) nm and ``log |d(b, a, t) / dx| = -log J``, (B,)."""
        i, (a, b, c) = self._atoms, self._references.unbind(1)
        parts = x.transpose(0, 1)  # atoms first: each gather then moves whole rows
        x_i, x_a, x_b, x_c = parts[i[1:]], parts[a[1:]], parts[b[2:]], parts[c[3:]]
        bond = x_i - x_a
        axis = x_b - x_a[1:]
        angles = torch.atan2(_norm(torch.linalg.cross(bond[1:], axis)), (bond[1:] * axis).sum(-1))
        far = x_c - x_b[1:]
        middle = axis[1:] / _norm(axis[1:])[..., None]
        near_normal = torch.linalg.cross(middle, bond[2:])
        far_normal = torch.linalg.cross(middle, far)
        torsions = torch.atan2(
            (torch.linalg.cross(near_normal, far_normal) * middle).sum(-1), (near_normal * far_normal).sum(-1)
        )
        y = Internal(_norm(bond).T, angles.T, torsions.T)
        return y, -log_jacobian(y)

    def inverse(self, y: Internal) -> tuple[Tensor, Tensor]:
        """Return conformations (B, n, 3) nm and ``log J``, (B,).

        The first atom is at the origin, the second on +x, the third in the xy half plane y > 0.
        """
        bonds, angles, torsions = y.bonds.T, y.angles.T, y.torsions.T
        sin_a = torch.sin(angles)
        local = torch.stack(
            [-torch.cos(angles[1:]), sin_a[1:] * torch.cos(torsions), sin_a[1:] * torch.sin(torsions)], -1
        )
        local = local * bonds[2:, :, None]
        parts = [self._first_three(bonds, angles)]
        for stage in self._stages:
            known = torch.cat([parts[k] for k in stage.sources])
            x_a, x_b, x_c = (known[at] for at in stage.references)
            e1, e2, e3 = local_axes(x_a, x_b, x_c)
            d = local[stage.rows - 3]
            parts.append(x_a + d[..., :1] * e1 + d[..., 1:2] * e2 + d[..., 2:] * e3)
        return torch.cat(parts)[self._placed].transpose(0, 1), log_jacobian(y)

    def _first_three(self, bonds: Tensor, angles: Tensor) -> Tensor:
        zero = torch.zeros_like(bonds[0])
        second = torch.stack([bonds[0], zero, zero], -1)
        third = torch.stack([bonds[0] - bonds[1] * torch.cos(angles[0]), bonds[1] * torch.sin(angles[0]), zero], -1)
        return torch.stack([torch.zeros_like(second), second, third])


class _Stage(NamedTuple):
    """Rows placed together, the stages that their references come from, and where in these (a, b, c) are."""

    rows: Tensor
    sources: list[int]
    references: tuple[Tensor, Tensor, Tensor]


def _plan(zmatrix: ZMatrix) -> tuple[list[_Stage], Tensor]:
    """Stages, and where among all placed atoms each atom of the molecule is (n,).

    A stage looks only at the few before it that it needs: the cost of a chain grows with its length, not its square.
    """
    where = {int(atom): (0, k) for k, atom in enumerate(zmatrix.atoms[:3])}
    sizes = [3]
    stages = []
    for rows in zmatrix.stages():
        references = zmatrix.references[rows]
        sources = sorted({where[int(atom)][0] for atom in references.ravel()})
        offsets = dict(zip(sources, np.cumsum([0, *(sizes[k] for k in sources)]), strict=False))
        at = np.array([[offsets[where[atom][0]] + where[atom][1] for atom in row] for row in references.tolist()])
        a, b, c = torch.from_numpy(at).unbind(1)
        stages.append(_Stage(torch.from_numpy(rows), sources, (a, b, c)))
        where |= {int(atom): (len(sizes), k) for k, atom in enumerate(zmatrix.atoms[rows])}
        sizes.append(len(rows))
    starts = np.cumsum([0, *sizes])
    placed = [starts[where[atom][0]] + where[atom][1] for atom in range(zmatrix.n_atoms)]
    return stages, torch.tensor(placed)


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=-1)
