"""Free-energy profiles along one angle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gibbsian.ensemble.estimators import mean

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
    rows = [mean(which == k, log_w, lineage=lineage) for k in range(bins)]
    p, spread = (np.array([float(row[i]) for row in rows]) for i in (0, 1))
    seen = p > 0
    free, error = np.full(bins, np.inf), np.full(bins, np.inf)
    free[seen] = -np.log(p[seen] / p.max())
    error[seen] = spread[seen] / p[seen]
    return Profile((np.arange(bins) + 0.5) * 2 * np.pi / bins - np.pi, free, error)
