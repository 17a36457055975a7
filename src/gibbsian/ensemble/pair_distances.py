"""How the distances between all atoms are distributed."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.weights import resample

Floats = NDArray[np.float64]

MOST_DISTANCES = 20_000_000
"""Distances that one density looks at; of more conformations some are drawn by weight."""
_CHUNK = 1_000_000
_LOOKED_AT = 2_000
"""Conformations that the longest distance is looked for in."""


def pair_distance_density(
    positions: NDArray[np.floating], weights: Floats, edges: Floats, *, most: int = MOST_DISTANCES, seed: int = 0
) -> Floats:
    """Density of the distances between all pairs of atoms, in 1/nm.

    Distances outside the edges count among all of them, so that the integral over the edges may be below one.

    Parameters
    ----------
    positions
        (n, n_atoms, 3) nm, finite.
    weights
        (n,) normalised; those of weight zero are not looked at.
    edges
        (k + 1,) of equal bins, rising, nm.
    most, seed
        With more distances than that, conformations are drawn by systematic resampling.
    """
    first, second = np.triu_indices(positions.shape[1], 1)
    pairs = max(len(first), 1)
    index = np.flatnonzero(weights > 0)
    shares = weights[index]
    if len(index) * pairs > most:
        drawn = resample(weights / weights.sum(), max(1, most // pairs), seed=seed)
        index, repeats = np.unique(drawn, return_counts=True)
        shares = repeats / repeats.sum()
    bins, low = len(edges) - 1, edges[0]
    scale = bins / (edges[-1] - low)
    counts = np.zeros(bins)
    step = max(1, _CHUNK // pairs)
    for start in range(0, len(index), step):
        x = positions[index[start : start + step]].astype(np.float32)
        distances = np.linalg.norm(x[:, first] - x[:, second], axis=-1)
        place = np.floor((distances - low) * scale)
        inside = (place >= 0) & (place < bins)
        weight = np.broadcast_to(shares[start : start + step, None], distances.shape)
        counts += np.bincount(place[inside].astype(np.int64), weight[inside], bins)
    return counts / pairs * scale


def longest_distance(positions: NDArray[np.floating], weights: Floats) -> float:
    """Longest distance between two atoms, nm, among some thousand conformations drawn by weight."""
    n = min(_LOOKED_AT, len(positions))
    index = np.unique(resample(weights, n, seed=0))
    step = max(1, _CHUNK // positions.shape[1] ** 2)
    longest = 0.0
    for start in range(0, len(index), step):
        x = positions[index[start : start + step]].astype(np.float64)
        longest = max(longest, float(np.sum((x[:, :, None] - x[:, None]) ** 2, axis=-1).max()))
    return longest**0.5
