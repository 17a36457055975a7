"""Peptide backbones with given torsions: conformations whose phi and psi are known."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology

BOND = {("C", "N"): 0.133, ("N", "CA"): 0.146, ("CA", "C"): 0.152, ("CH3", "C"): 0.151, ("N", "C"): 0.146}
"""Bond lengths along the chain, nm."""
ANGLE = 1.98
"""Every bond angle, rad."""


def backbone_topology(n_residues: int = 1) -> Topology:
    """Heavy backbone atoms, carbonyl oxygens left out, of ACE-ALA...-NME with `n_residues` alanines."""
    names = ["CH3", "C"] + ["N", "CA", "C"] * n_residues + ["N", "C"]
    residues = [0, 0] + [r for r in range(1, n_residues + 1) for _ in range(3)] + [n_residues + 1] * 2
    return Topology(
        atom_names=tuple(names),
        elements=tuple(name[0] for name in names),
        residue_index=np.array(residues, dtype=np.int64),
        residue_names=("ACE", *["ALA"] * n_residues, "NME"),
        residue_ids=tuple(str(r + 1) for r in range(n_residues + 2)),
        bonds=np.array([(i, i + 1) for i in range(len(names) - 1)], dtype=np.int64),
    )


def backbone_positions(phi: NDArray[np.float64], psi: NDArray[np.float64]) -> NDArray[np.float32]:
    """Place the atoms of `backbone_topology` by their torsions, peptide bonds trans.

    Parameters
    ----------
    phi, psi
        (n, n_residues) rad.

    Returns
    -------
    (n, n_atoms, 3) nm, float32.
    """
    n, m = phi.shape
    names = backbone_topology(m).atom_names
    trans = np.full((n, m), np.pi)
    # Torsions in chain order: omega, phi, psi of each residue, then the last omega.
    torsions = np.concatenate([np.stack([trans, phi, psi], axis=2).reshape(n, 3 * m), trans[:, :1]], axis=1)
    x = np.zeros((n, len(names), 3))
    first = BOND[names[0], names[1]]
    x[:, 1, 0] = first
    x[:, 2] = [first - np.cos(ANGLE) * BOND["C", "N"], np.sin(ANGLE) * BOND["C", "N"], 0.0]
    for k in range(3, len(names)):
        x[:, k] = _place(x[:, k - 3], x[:, k - 2], x[:, k - 1], BOND[names[k - 1], names[k]], torsions[:, k - 3])
    return x.astype(np.float32)


def _place(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    length: float,
    torsion: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Atom at `length` from c, at `ANGLE` to b and at `torsion` (n,) to a."""
    along = (c - b) / np.linalg.norm(c - b, axis=-1, keepdims=True)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    across = np.cross(normal, along)
    parts = (
        -np.cos(ANGLE) * along.T,
        np.sin(ANGLE) * np.cos(torsion) * across.T,
        np.sin(ANGLE) * np.sin(torsion) * normal.T,
    )
    return c + length * (parts[0] + parts[1] + parts[2]).T
