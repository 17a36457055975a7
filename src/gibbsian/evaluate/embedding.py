"""Two coordinates that show where conformations lie: PCA of backbone torsions, or UMAP where it is installed.

Fitted on training data alone: test data and generated conformations are only placed.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import phi_psi
from gibbsian.ensemble.weights import resample
from gibbsian.errors import InputError

Floats = NDArray[np.float64]

MOST = 20_000
"""Frames that UMAP is fitted on; of more, so many are drawn by weight."""


class Embedding(Protocol):
    """A fitted map."""

    def transform(self, features: Floats) -> Floats:
        """Place features (n, d) in the plane, (n, 2)."""
        ...


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components.

    Attributes
    ----------
    mean
        (d,) of the training data.
    axes
        (d, 2) orthonormal; the largest entry of each is positive.
    explained
        (2,) share of the variance along each.
    """

    mean: Floats
    axes: Floats
    explained: Floats

    def transform(self, features: Floats) -> Floats:
        """Place features (n, d) in the plane, (n, 2)."""
        return (features - self.mean) @ self.axes


@dataclass(frozen=True, eq=False)
class Umap:
    """A fitted UMAP; distances between groups of points mean nothing in it."""

    model: Any

    def transform(self, features: Floats) -> Floats:
        """Place features (n, d) in the plane, (n, 2)."""
        return np.asarray(self.model.transform(features), dtype=np.float64)


def torsion_features(topology: Topology, positions: NDArray[np.floating]) -> Floats:
    """Cosine and sine of every phi and psi: (n, d)."""
    angles = phi_psi(topology, positions)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def fit_embedding(training: Ensemble, method: Literal["pca", "umap"] = "pca", *, seed: int = 0) -> Embedding:
    """Fit a map of `torsion_features` to the plane on weighted training data.

    Parameters
    ----------
    method
        ``pca``, or ``umap`` if the package umap-learn is installed.

    Raises
    ------
    InputError
        If the method is unknown or not installed, or the chain has fewer than two features that move.
    """
    if method == "umap":
        return _fit_umap(training, seed)
    if method != "pca":
        raise InputError(f"embedding: {method!r} is unknown; choose pca or umap")
    used = training.weights > 0
    weights = training.weights[used]
    features = torsion_features(training.topology, training.positions[used])
    mean = weights @ features
    spread = np.sqrt(weights)[:, None] * (features - mean)
    variance, axes = np.linalg.eigh(spread.T @ spread)
    if len(variance) < 2 or variance[-2] <= 1e-12 * variance[-1] or variance[-1] <= 0:
        raise InputError(f"embedding: {features.shape[1]} torsion features that hardly move; two directions are needed")
    axes = axes[:, [-1, -2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return Pca(mean, axes, variance[[-1, -2]] / variance.sum())


def _fit_umap(training: Ensemble, seed: int) -> Umap:
    if find_spec("umap") is None:
        raise InputError("embedding: umap is not installed; pip install 'gibbsian[umap]', or choose pca")
    import umap  # pyright: ignore[reportMissingImports]

    index = np.unique(resample(training.weights, min(MOST, len(training)), seed=seed))
    features = torsion_features(training.topology, training.positions[index])
    return Umap(umap.UMAP(n_components=2, random_state=seed).fit(features))
