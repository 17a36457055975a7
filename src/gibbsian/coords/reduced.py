"""Reduced internal coordinates: backbone angles and all proper torsions move, everything else stays where it is."""

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import Internal, InternalCoordinates, wrap
from gibbsian.coords.variables import FreeKind, Frozen, FrozenKind, Variables
from gibbsian.coords.zmatrix import ZMatrix
from gibbsian.errors import InputError

_CHUNK = 2048
_MODE_BINS = 36
_MODE_WINDOW = math.pi / 3.0
_BACKBONE_KINDS: dict[str, FreeKind] = {"N": "omega", "CA": "phi", "C": "psi"}
_CHI: tuple[FreeKind, ...] = ("chi1", "chi2", "chi3", "chi4", "chi5")


class ReducedCoordinates:
    """Splits the internal coordinates of a molecule into free variables y and frozen ones c (arXiv 2401.04246).

    Free are the bond angles and torsions of the backbone chain, 6 L - 5 for L residues without caps, and the proper
    torsions of side chains, rotors and the end of the chain. Frozen are bonds, other angles, deltas and rings.

    Parameters
    ----------
    topology
        One chain without disulfides. The bond that closes the ring of a proline is no coordinate; its chi1 is free,
        with one warning.
    rotors
        Whether torsions that turn hydrogens only are free.

    Attributes
    ----------
    full
        All internal coordinates.
    variables, frozen
        What the free and the frozen coordinates are.

    Raises
    ------
    InputError
        If the molecule has a disulfide, or no coordinates.
    """

    def __init__(self, topology: Topology, rotors: bool = True) -> None:
        _refuse_disulfides(topology)
        self.topology, self.rotors = topology, rotors
        self.full = InternalCoordinates(topology)
        self.n_atoms = topology.n_atoms
        atoms, residues = _flat(self.full.zmatrix, topology)
        kinds = _free_kinds(self.full.zmatrix, topology, rotors)
        n_torsions, n_backbone = topology.n_atoms - 3, self.full.zmatrix.n_backbone

        def position(k: int) -> tuple[int, bool, int, int]:
            row = k + 3 if k < n_torsions else k - n_torsions + 2
            return int(residues[k]), row >= n_backbone, row, int(k < n_torsions)

        free = sorted(kinds, key=position)
        frozen = sorted((k for k in range(len(residues)) if k not in kinds), key=lambda k: (int(residues[k]), k))
        self.variables = Variables(
            kinds=tuple(kinds[k] for k in free),
            residues=residues[free],
            residue_names=tuple(topology.residue_names[residue] for residue in residues[free]),
            backbone=np.array([not position(k)[1] for k in free], dtype=np.bool_),
        )
        self.frozen = Frozen(tuple(_frozen_kind(self.full.zmatrix, k) for k in frozen), residues[frozen], atoms[frozen])
        self._free, self._frozen = torch.tensor(free), torch.tensor(frozen)
        self._order = torch.argsort(torch.cat([self._free, self._frozen]))
        self._angles = torch.from_numpy(~self.variables.periodic)

    def split(self, y: Internal) -> tuple[Tensor, Tensor]:
        """Return free (B, n) and frozen (B, m) coordinates, rad and nm."""
        flat = torch.cat([y.torsions, y.angles, y.bonds], -1)
        return flat[:, self._free], flat[:, self._frozen]

    def join(self, free: Tensor, frozen: Tensor) -> Internal:
        """Inverse of `split`; `frozen` is (B, m), or (m,) for all alike. Torsions may have any number of turns."""
        flat = torch.cat([free, frozen.expand(len(free), -1)], -1)[:, self._order]
        torsions, angles, bonds = flat.split([self.n_atoms - 3, self.n_atoms - 2, self.n_atoms - 1], -1)
        return Internal(bonds, angles, wrap(torsions))

    def from_x(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Free (B, n) and frozen (B, m) coordinates of conformations `x` (B, n_atoms, 3) nm."""
        return self.split(self.full.forward(x)[0])

    def to_x(self, free: Tensor, frozen: Tensor) -> Tensor:
        """Conformations (B, n_atoms, 3) nm; see `join` and `InternalCoordinates.inverse`."""
        return self.full.inverse(self.join(free, frozen))[0]

    def log_jacobian_free(self, free: Tensor) -> Tensor:
        """Part of the log volume element that free coordinates have in it, ``sum log sin a``, (B,)."""
        return torch.log(torch.sin(free[:, self._angles])).sum(-1)

    def log_jacobian_frozen(self, frozen: Tensor) -> Tensor:
        """Part of frozen coordinates (..., m) in the log volume element, ``sum 2 log b + sum log sin a``, (...,).

        Both parts together are `gibbsian.coords.internal.log_jacobian`.
        """
        angles = torch.from_numpy(self.frozen.of("angle"))
        bonds = torch.from_numpy(self.frozen.of("bond"))
        return torch.log(torch.sin(frozen[..., angles])).sum(-1) + 2.0 * torch.log(frozen[..., bonds]).sum(-1)

    def mean_frozen(self, x: Tensor, log_w: Tensor | None = None) -> Tensor:
        """Return c0 (m,), float64: weighted means over `x` (n, n_atoms, 3) nm, circular ones for torsions.

        A frozen rotor visits several wells, between which its mean may lie: its mean is that around its fullest bin.
        """
        weights = torch.full((len(x),), 1.0 / len(x)).double() if log_w is None else torch.softmax(log_w.double(), 0)
        frozen = torch.cat([self.from_x(part.double())[1] for part in x.split(_CHUNK)])
        circular = _circular_mean(frozen, weights[:, None])
        means = torch.where(torch.from_numpy(self.frozen.torsion), circular, weights @ frozen)
        for k in np.flatnonzero(self.frozen.of("rotor")):
            means[k] = _mode(frozen[:, k], weights)
        return means


def _circular_mean(angles: Tensor, weights: Tensor) -> Tensor:
    return torch.atan2((weights * torch.sin(angles)).sum(0), (weights * torch.cos(angles)).sum(0))


def _mode(angle: Tensor, weights: Tensor) -> Tensor:
    bins = (torch.remainder(angle / (2.0 * math.pi), 1.0) * _MODE_BINS).long().clamp_max(_MODE_BINS - 1)
    fullest = torch.bincount(bins, weights, _MODE_BINS).argmax()
    centre = (fullest + 0.5) * (2.0 * math.pi / _MODE_BINS)
    near = wrap(angle - centre).abs() < _MODE_WINDOW
    return _circular_mean(angle, weights * near)


def _refuse_disulfides(topology: Topology) -> None:
    for i, j in topology.bonds.tolist():
        if topology.elements[i] == topology.elements[j] == "S":
            a, b = (int(topology.residue_index[k]) + 1 for k in (i, j))
            raise InputError(
                f"reduced coordinates: residues {a} and {b} are joined by a disulfide, which frozen bonds cannot keep "
                "closed; use full coordinates"
            )


def _flat(z: ZMatrix, topology: Topology) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Atoms (k, 4) and residues (k,) of all torsions, angles and bonds, in this order."""
    rows = np.concatenate([z.atoms[:, None], z.references], axis=1)
    nothing = np.full((len(rows), 2), -1)
    angles, bonds = np.concatenate([rows[:, :3], nothing[:, :1]], 1), np.concatenate([rows[:, :2], nothing], 1)
    owner = np.concatenate([rows[3:, 1], rows[2:, 1], rows[1:, 0]])
    return np.concatenate([rows[3:], angles[2:], bonds[1:]]), np.asarray(topology.residue_index)[owner]


def _free_kinds(z: ZMatrix, topology: Topology, rotors: bool) -> dict[int, FreeKind]:
    """Kind of each free coordinate by its index among all torsions, angles and bonds."""
    path = {int(atom) for atom in z.atoms[: z.n_backbone]}
    parent = {int(atom): int(a) for atom, (a, _, _) in zip(z.atoms, z.references, strict=True)}

    def depth(atom: int) -> int:
        return 0 if atom in path else 1 + depth(parent[atom])

    kinds: dict[int, FreeKind] = {}
    prolines: set[int] = set()
    for k, kind in enumerate(z.kinds):
        behind = int(z.references[k + 3, 0])
        name, level = topology.atom_names[behind], depth(behind)
        if k + 3 < z.n_backbone:
            kinds[k] = _BACKBONE_KINDS.get(name, "rotor")
        elif kind == "proper" and z.groups[k] != "hydrogen":
            kinds[k] = _CHI[min(level, len(_CHI)) - 1] if level else "rotor"
        elif kind == "proper" and rotors:
            kinds[k] = "rotor"
        elif kind == "ring" and z.groups[k] != "hydrogen" and level == 1 and int(z.references[k + 3, 1]) in path:
            kinds[k] = "chi1"
            prolines.add(int(topology.residue_index[behind]) + 1)
    if prolines:
        named = ", ".join(str(residue) for residue in sorted(prolines))
        warnings.warn(
            f"reduced coordinates: the bond that closes the ring of proline {named} is no coordinate; its chi1 is free "
            "and only the energy keeps the ring closed",
            stacklevel=3,
        )
    for k in range(z.n_backbone - 2):
        kinds[z.n_atoms - 3 + k] = "angle"
    return kinds


def _frozen_kind(z: ZMatrix, k: int) -> FrozenKind:
    n = z.n_atoms
    if k >= n - 3:
        return "angle" if k < 2 * n - 5 else "bond"
    kind = z.kinds[k]
    return "rotor" if kind == "proper" else kind
