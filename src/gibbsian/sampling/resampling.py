"""Resampling of weighted particles, and what their ancestry says about the result.

After resampling the weights look good by construction. How much is left of the sample is seen on its ancestors: the
draws from the proposal that still have descendants, and the share of the final weight that each of them holds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.weights import Estimate, Scheme, ess, log_z_ancestors, normalised, resample


def draw_parents(
    log_w: NDArray[np.float64], *, seed: int, scheme: Scheme = "systematic", n: int | None = None
) -> NDArray[np.int64]:
    """Draw the indices of the particles that survive, ascending, as many as there are or `n`.

    Parameters
    ----------
    log_w
        (m,) log weights; particles of weight zero are never drawn.
    seed, scheme
        As in `gibbsian.ensemble.weights.resample`.

    Raises
    ------
    InputError
        If every weight is zero.
    """
    return resample(normalised(log_w), len(log_w) if n is None else n, seed=seed, scheme=scheme)


@dataclass(frozen=True)
class Ancestry:
    """What is left of the first generation.

    Attributes
    ----------
    effective
        1 / sum_a W_a^2 with the weight W_a of all descendants of ancestor a.
    unique
        Ancestors with descendants of non-zero weight.
    log_z
        Log of the mean weight with the error that the weights of the ancestors imply.
    """

    effective: float
    unique: int
    log_z: Estimate


def ancestry(log_w: NDArray[np.float64], ancestors: NDArray[np.int64]) -> Ancestry:
    """Diagnose particles with log weights (n,), normalisation included, and first-generation indices (n,)."""
    if ess(log_w) == 0:
        return Ancestry(0.0, 0, Estimate(-np.inf, np.inf))
    shares = np.bincount(ancestors, weights=normalised(log_w), minlength=len(log_w))
    return Ancestry(
        effective=float(1.0 / np.sum(shares**2)),
        unique=int((shares > 0).sum()),
        log_z=log_z_ancestors(log_w, ancestors, len(log_w)),
    )
