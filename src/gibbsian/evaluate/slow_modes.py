"""Slow modes of continuous simulations by time-lagged independent component analysis (TICA)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.geometry import backbone, dihedral
from gibbsian.errors import InputError

RANK = 1e-8
"""Directions whose variance is below this share of the largest are left out."""


@dataclass(frozen=True, eq=False)
class Tica:
    """A fitted projection.

    Attributes
    ----------
    mean
        (d,) of the features.
    components
        (d, k) projection; projected features have unit variance.
    eigenvalues
        (k,) autocorrelations at the lag, descending.
    lag
        Frames.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    lag: int

    def transform(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Project features (n, d) to (n, k)."""
        return (features - self.mean) @ self.components

    @property
    def timescales(self) -> NDArray[np.float64]:
        """Implied timescales (k,) in frames, -lag / ln(eigenvalue); NaN where that is not positive."""
        positive = np.where(self.eigenvalues > 0, np.minimum(self.eigenvalues, 1 - 1e-15), np.nan)
        return -self.lag / np.log(positive)


def features(topology: Topology, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distances of all pairs of C, N, S atoms, and sine and cosine of all phi, psi, omega: (n, d)."""
    heavy = np.array([i for i, e in enumerate(topology.elements) if e in ("C", "N", "S")], dtype=np.int64)
    i, j = (heavy[k] for k in np.triu_indices(len(heavy), 1))
    x = positions.astype(np.float64)
    atoms = backbone(topology)
    angles = dihedral(positions, np.concatenate([atoms.phi, atoms.psi, atoms.omega]))
    return np.concatenate([np.linalg.norm(x[:, i] - x[:, j], axis=-1), np.sin(angles), np.cos(angles)], axis=1)


def fit_tica(runs: Sequence[NDArray[np.floating]], *, lag: int, n_components: int = 2) -> Tica:
    """Fit TICA, symmetrised in time, on continuous runs.

    Solves C(lag) v = lambda C(0) v with the means and covariances of both ends of all lagged pairs of frames.
    Frames of replicas that hop between temperatures are not runs: give demultiplexed or single-temperature simulations.

    Parameters
    ----------
    runs
        Feature arrays (T, d), one per continuous simulation; pairs never straddle two runs.
    lag
        Frames.
    n_components
        Components wanted.

    Raises
    ------
    InputError
        If no run is longer than the lag or the features do not move.
    """
    if lag < 1 or n_components < 1:
        raise InputError(f"TICA: lag {lag}, {n_components} components; give positive numbers")
    used = [np.asarray(run, dtype=np.float64) for run in runs if len(run) > lag]
    if not used:
        longest = max((len(run) for run in runs), default=0)
        raise InputError(f"TICA: the longest run has {longest} frames, lag {lag}; give longer runs or a smaller lag")
    start, end = np.concatenate([r[:-lag] for r in used]), np.concatenate([r[lag:] for r in used])
    mean = (start.mean(axis=0) + end.mean(axis=0)) / 2
    start, end = start - mean, end - mean
    instantaneous = (start.T @ start + end.T @ end) / (2 * len(start))
    lagged = (start.T @ end + end.T @ start) / (2 * len(start))
    # Whitening first drops directions that do not move (omega of a stiff bond, redundant distances).
    variance, axes = scipy.linalg.eigh(instantaneous)
    kept = variance > RANK * variance[-1]
    if variance[-1] <= 0 or kept.sum() < n_components:
        raise InputError(f"TICA: {int(kept.sum())} moving features for {n_components} components; give more")
    whitener = axes[:, kept] / np.sqrt(variance[kept])
    eigenvalues, vectors = scipy.linalg.eigh(whitener.T @ lagged @ whitener)
    order = np.argsort(eigenvalues)[::-1][:n_components]
    return Tica(mean, whitener @ vectors[:, order], eigenvalues[order], lag)
