"""Backbone torsions straight from coordinates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.residues import omega_atoms, phi_atoms, psi_atoms
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
    sine = np.einsum("nmi,nmi->nm", np.cross(left, right), axis) / np.maximum(np.linalg.norm(axis, axis=-1), 1e-300)
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
    """Find phi, psi and omega of every residue that has them."""
    arrays: dict[str, NDArray[np.int64]] = {}
    for kind, atoms_of in (("phi", phi_atoms), ("psi", psi_atoms), ("omega", omega_atoms)):
        found = {r: atoms for r in range(topology.n_residues) if (atoms := atoms_of(topology, r)) is not None}
        arrays[kind] = np.array(list(found.values()), dtype=np.int64).reshape(-1, 4)
        arrays[f"{kind}_residues"] = np.array(list(found), dtype=np.int64)
    return Backbone(**arrays)


def residue_label(topology: Topology, residue: int) -> str:
    """Name of a residue as people write it: ``ALA2``."""
    return f"{topology.residue_names[residue]}{topology.residue_ids[residue]}"


def phi_psi(topology: Topology, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """All phi, then all psi of the chain, (n, n_phi + n_psi) rad."""
    atoms = backbone(topology)
    return dihedral(positions, np.concatenate([atoms.phi, atoms.psi]))


def ramachandran(topology: Topology, positions: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Residues (m,) that have both phi and psi, and the two angles (n, m, 2) in rad."""
    atoms = backbone(topology)
    residues, i, j = np.intersect1d(atoms.phi_residues, atoms.psi_residues, return_indices=True)
    angles = [dihedral(positions, atoms.phi[i]), dihedral(positions, atoms.psi[j])]
    return residues, np.stack(angles, axis=-1)
