"""Backbone basins: which samples are `left`, `alpha` or `beta` at each residue."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.geometry import ramachandran, residue_label

BASINS = ("left", "alpha", "beta")
"""Names of the basins of one residue."""


def classify(phi: NDArray[np.float64], psi: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Masks of the three basins of one residue from its angles in rad, any shape.

    ``left``: 0 < phi < 126 degrees; ``alpha``: phi outside, -120 <= psi < 34 degrees; ``beta``: the rest.
    """
    phi_degrees, psi_degrees = np.degrees(phi), np.degrees(psi)
    left = (phi_degrees > 0) & (phi_degrees < 126)
    alpha = ~left & (psi_degrees >= -120) & (psi_degrees < 34)
    return {"left": left, "alpha": alpha, "beta": ~left & ~alpha}


def basin_masks(topology: Topology, positions: NDArray[np.floating]) -> dict[str, NDArray[np.bool_]]:
    """Masks (n,) of every basin of every residue with both phi and psi, named ``ALA2 left``.

    Parameters
    ----------
    topology, positions
        The molecule and its conformations (n, n_atoms, 3).
    """
    residues, angles = ramachandran(topology, positions)
    masks = {}
    for k, residue in enumerate(residues.tolist()):
        label = residue_label(topology, residue)
        for name, mask in classify(angles[:, k, 0], angles[:, k, 1]).items():
            masks[f"{label} {name}"] = mask
    return masks
