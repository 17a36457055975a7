"""Backbone torsions straight from coordinates."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology


def dihedral(positions: NDArray[np.floating], atoms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dihedral angles in (-pi, pi].

    Parameters
    ----------
    positions
        (n, n_atoms, 3).
    atoms
        (m, 4) atom indices.

    Returns
    -------
    (n, m) angles in rad, IUPAC sign (clockwise looking from the second atom to the third is positive).
    """
    if len(atoms) == 0:
        return np.zeros((len(positions), 0))
    a, b, c, d = (positions[:, atoms[:, k]].astype(np.float64) for k in range(4))
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    sine = np.einsum("nmi,nmi->nm", np.cross(left, right), axis) / np.maximum(
        np.linalg.norm(axis, axis=-1), 1e-300
    )
    angles = np.arctan2(sine, np.einsum("nmi,nmi->nm", left, right))
    # arctan2 gives -pi for a negative zero; the interval is closed at +pi.
    return np.where(angles <= -np.pi, np.pi, angles)


@dataclass(frozen=True, eq=False)
class Backbone:
    """Atoms of the backbone torsions of a chain.

    Attributes
    ----------
    phi, psi, omega
        (m, 4) atom indices C-N-CA-C, N-CA-C-N, CA-C-N-CA, in the order of the residues that have them.
    phi_residues, psi_residues, omega_residues
        (m,) residue of each; omega belongs to the residue that its nitrogen is in.
    """

    phi: NDArray[np.int64]
    psi: NDArray[np.int64]
    omega: NDArray[np.int64]
    phi_residues: NDArray[np.int64]
    psi_residues: NDArray[np.int64]
    omega_residues: NDArray[np.int64]


def backbone(topology: Topology) -> Backbone:
    """Find phi, psi and omega of every residue that has them; a chain break has none."""
    found: dict[str, list[list[int]]] = {"phi": [], "psi": [], "omega": []}
    residues: dict[str, list[int]] = {"phi": [], "psi": [], "omega": []}

    def add(kind: str, residue: int, *path: int | None) -> None:
        atoms = [atom for atom in path if atom is not None]
        bonded = all(b in topology.neighbours[a] for a, b in pairwise(atoms))
        if len(atoms) == 4 and bonded:
            found[kind].append(atoms)
            residues[kind].append(residue)

    for r in range(topology.n_residues):
        n, ca, c = (topology.find(r, name) for name in ("N", "CA", "C"))
        before, following = topology.find(r - 1, "C"), topology.find(r + 1, "N")
        previous_ca, own_ca = (_alpha_carbon(topology, residue) for residue in (r - 1, r))
        add("phi", r, before, n, ca, c)
        add("psi", r, n, ca, c, following)
        add("omega", r, previous_ca, before, n, own_ca)
    arrays = {kind: np.array(atoms, dtype=np.int64).reshape(-1, 4) for kind, atoms in found.items()}
    owners = {f"{kind}_residues": np.array(list_, dtype=np.int64) for kind, list_ in residues.items()}
    return Backbone(**arrays, **owners)


def _alpha_carbon(topology: Topology, residue: int) -> int | None:
    """Alpha carbon of a residue, or the methyl carbon of a cap, which is named CH3 or, in NME, also C."""
    for name in ("CA", "CH3", "C"):
        atom = topology.find(residue, name)
        if atom is not None:
            return atom
    return None


def residue_label(topology: Topology, residue: int) -> str:
    """Name of a residue as people write it: ``ALA2``."""
    return f"{topology.residue_names[residue]}{topology.residue_ids[residue]}"


def phi_psi(topology: Topology, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """All phi, then all psi of the chain, (n, n_phi + n_psi) rad."""
    atoms = backbone(topology)
    return dihedral(positions, np.concatenate([atoms.phi, atoms.psi]))


def ramachandran(
    topology: Topology, positions: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Residues (m,) that have both phi and psi, and the two angles (n, m, 2) in rad."""
    atoms = backbone(topology)
    residues, i, j = np.intersect1d(atoms.phi_residues, atoms.psi_residues, return_indices=True)
    angles = [dihedral(positions, atoms.phi[i]), dihedral(positions, atoms.psi[j])]
    return residues, np.stack(angles, axis=-1)
