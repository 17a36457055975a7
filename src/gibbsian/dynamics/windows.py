"""Umbrella windows: which torsions are biased, where the windows are, and what the bias of each costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.residues import chi_atoms, phi_atoms, psi_atoms
from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError
from gibbsian.potentials.base import TorsionBias

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Windows:
    """A regular periodic grid of harmonic biases on one or two torsions.

    Attributes
    ----------
    atoms
        (d, 4).
    shape
        Windows along each torsion; K is their product, and the last torsion runs fastest.
    k
        (d,) kJ/mol/rad^2.
    """

    atoms: NDArray[np.int64]
    shape: tuple[int, ...]
    k: Floats

    @property
    def centres(self) -> Floats:
        """(K, d) rad in (-pi, pi)."""
        axes = [(np.arange(m) + 0.5) * 2 * np.pi / m - np.pi for m in self.shape]
        return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], 1)

    @property
    def neighbours(self) -> NDArray[np.int64]:
        """(n, 2) windows next to each other, each pair once."""
        index = np.arange(np.prod(self.shape)).reshape(self.shape)
        pairs = [np.stack([index, np.roll(index, -1, axis)], -1).reshape(-1, 2) for axis in range(index.ndim)]
        return np.unique(np.sort(np.concatenate(pairs), 1), axis=0)

    def energies(self, angles: Floats) -> Floats:
        """Bias energy (n, K) in kJ/mol of torsions `angles` (n, d) rad in every window."""
        axes = []
        for column, m, k in zip(angles.T, self.shape, self.k, strict=True):
            centres = (np.arange(m) + 0.5) * 2 * np.pi / m - np.pi
            axes.append(0.5 * k * wrapped(column[:, None] - centres) ** 2)
        total = axes[0]
        for more in axes[1:]:
            total = (total[:, :, None] + more[:, None, :]).reshape(len(angles), -1)
        return total

    def bias(self, centres: Tensor) -> TorsionBias:
        """Bias of walkers towards `centres` (B, d) rad, for an integrator."""
        k = torch.from_numpy(self.k).expand(len(centres), -1)
        return TorsionBias(torch.from_numpy(self.atoms), centres, k)


def wrapped(difference: Floats) -> Floats:
    """Return differences of angles the shorter way around, in [-pi, pi)."""
    return (difference + np.pi) % (2 * np.pi) - np.pi


def torsion_atoms(topology: Topology, name: str) -> tuple[int, int, int, int]:
    """Atoms of a torsion named by residue and kind, ``2:phi`` or ``ALA2:chi1``.

    Raises
    ------
    InputError
        If the molecule has no such torsion.
    """
    named = named_torsions(topology)
    wanted, _, kind = name.partition(":")
    for (residue, known), atoms in named.items():
        number = topology.residue_ids[residue]
        if known == kind and wanted in (number, f"{topology.residue_names[residue]}{number}"):
            return atoms
    known = [f"{topology.residue_ids[r]}:{kind}" for r, kind in named]
    raise InputError(f"torsion: got {name!r}; the molecule has {_few(known) or 'none that can be biased'}")


def named_torsions(topology: Topology) -> dict[tuple[int, str], tuple[int, int, int, int]]:
    """Atoms of every phi, psi and chi, by residue index and kind."""
    found = {}
    for residue in range(topology.n_residues):
        backbone = {"phi": phi_atoms(topology, residue), "psi": psi_atoms(topology, residue)}
        sides = {f"chi{i}": atoms for i, atoms in enumerate(chi_atoms(topology, residue), 1)}
        found |= {(residue, kind): a for kind, a in {**backbone, **sides}.items() if a is not None}
    return found


def _few(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
