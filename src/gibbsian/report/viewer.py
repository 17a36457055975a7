"""A few conformations that stand for the ensemble, drawn by weight and superposed."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import resample

BACKBONE = frozenset({"N", "CA", "C", "CH3"})


def representatives(ensemble: Ensemble, n: int = 20, seed: int = 0) -> NDArray[np.float64]:
    """Return up to `n` conformations drawn in proportion to their weights, superposed by the backbone.

    A conformation that is drawn twice appears once: fewer than `n` come back where few carry the weight.

    Returns
    -------
    (m, n_atoms, 3) nm, centred on the mean backbone.
    """
    picks = np.unique(resample(ensemble.weights, min(n, len(ensemble)), seed=seed))
    chosen = ensemble.positions[picks].astype(np.float64)
    return superpose(chosen, backbone_atoms(ensemble.topology))


def backbone_atoms(topology: Topology) -> NDArray[np.int64]:
    """Atoms to superpose on: N, CA, C and methyl carbons of caps; every atom if those are below three."""
    found = [i for i, name in enumerate(topology.atom_names) if name in BACKBONE]
    return np.array(found if len(found) >= 3 else range(topology.n_atoms), dtype=np.int64)


def superpose(positions: NDArray[np.float64], atoms: NDArray[np.int64], rounds: int = 2) -> NDArray[np.float64]:
    """Move each conformation onto the mean one by the rotation that is best for `atoms` (Kabsch).

    Parameters
    ----------
    positions
        (m, n_atoms, 3).
    atoms
        Atoms that decide the fit.
    rounds
        The first round fits to the first conformation, each later one to the mean of the round before.
    """
    moved = positions - positions[:, atoms].mean(axis=1, keepdims=True)
    target = moved[0, atoms]
    for _ in range(rounds):
        covariance = np.einsum("mai,aj->mij", moved[:, atoms], target)
        left, _, right = np.linalg.svd(covariance)
        handedness = np.sign(np.linalg.det(left @ right))
        left[:, :, -1] *= handedness[:, None]
        moved = moved @ (left @ right)
        target = moved[:, atoms].mean(axis=0)
    return moved
