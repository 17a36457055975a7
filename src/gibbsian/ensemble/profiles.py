"""Free-energy profiles along one angle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gibbsian.ensemble.estimators import blocks_of, mean
from gibbsian.ensemble.weights import normalised

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Profile:
    """Free energy -ln p of an angle in equal bins of (-pi, pi].

    Attributes
    ----------
    centres
        (n,) rad.
    free_energy, error
        (n,) kT, with minimum zero, and the standard errors of -ln p; both infinite in bins without samples.
    """

    centres: Floats
    free_energy: Floats
    error: Floats


def angle_profile(
    angles: ArrayLike, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, bins: int = 36
) -> Profile:
    """Profile of weighted `angles` (n,) in rad; errors as in `gibbsian.ensemble.estimators.mean`."""
    theta = np.asarray(angles, dtype=np.float64)
    which = np.floor((theta + np.pi) / (2 * np.pi) * bins).astype(np.int64) % bins
    p, spread = shares(which, bins, log_w, lineage=lineage)
    seen = p > 0
    free, error = np.full(bins, np.inf), np.full(bins, np.inf)
    free[seen] = -np.log(p[seen] / p.max())
    error[seen] = spread[seen] / p[seen]
    return Profile((np.arange(bins) + 0.5) * 2 * np.pi / bins - np.pi, free, error)


def shares(
    which: NDArray[np.int64], classes: int, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None
) -> tuple[Floats, Floats]:
    """Share of the weight in each class and its standard error, both (classes,).

    What `gibbsian.ensemble.estimators.mean` gives for the indicators of the classes, in one pass over the samples.

    Parameters
    ----------
    which
        (n,) class of each sample.
    log_w, lineage
        As there.
    """
    weights = normalised(log_w)
    if lineage is None:
        p, squares = (np.bincount(which, weights**power, classes).astype(np.float64) for power in (1, 2))
        return p, np.sqrt(np.maximum(squares * (1 - 2 * p) + p**2 * squares.sum(), 0.0))
    # Errors know the sums over lineages only, so that a lineage may stand for its samples.
    blocks = blocks_of(np.asarray(lineage))
    table = np.bincount(blocks * classes + which, weights, (blocks.max() + 1) * classes).reshape(-1, classes)
    mass = table.sum(axis=1)
    table, mass = table[mass > 0], mass[mass > 0]
    return mean(table / mass[:, None], np.log(mass), lineage=np.arange(len(mass)))
