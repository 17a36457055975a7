"""Importance weights: effective sample size, tail shape, partition function, resampling.

All functions take unnormalised log weights, float64; -inf is a weight of zero and counts as a sample. NaN
and +inf are refused. When every weight is zero the diagnostics say so (`ess` 0, `k_hat` inf, `log_z` -inf)
and whatever needs normalised weights raises `InputError`. Nothing here clips.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from gibbsian.errors import InputError

Scheme = Literal["systematic", "stratified", "multinomial"]

MIN_TAIL = 5
"""Fewest tail weights from which a generalised Pareto shape is fitted."""
FLAT = 1e-10
"""Relative spread below which the largest weights count as equal: rounding, not a tail."""


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def checked(log_w: ArrayLike) -> NDArray[np.float64]:
    """Return log weights as a float64 vector.

    Raises
    ------
    InputError
        If they are empty, not one-dimensional, NaN or +inf.
    """
    values = np.asarray(log_w, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"log weights: shape {values.shape}; give one number for each of at least one sample")
    bad = np.flatnonzero(np.isnan(values) | np.isposinf(values))
    if len(bad):
        raise InputError(
            f"log weights: {values[bad[0]]} at sample {bad[0]} ({len(bad)} in all); for weight zero use -inf"
        )
    return values


def normalised(log_w: ArrayLike) -> NDArray[np.float64]:
    """Weights that sum to one, (n,).

    Raises
    ------
    InputError
        If every weight is zero.
    """
    values = checked(log_w)
    if not np.isfinite(values).any():
        raise InputError(f"log weights: all {len(values)} weights are zero; no estimate can be made, sample anew")
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def ess(log_w: ArrayLike) -> float:
    """Effective number of samples (sum w)^2 / sum w^2 (Kish), 0 to n; 0 if every weight is zero."""
    values = checked(log_w)
    if not np.isfinite(values).any():
        return 0.0
    weights = np.exp(values - values.max())
    return float(weights.sum() ** 2 / np.sum(weights**2))


def log_z(log_w: ArrayLike) -> Estimate:
    """Log of the mean weight, log Z for importance samples, with its delta-method error.

    The error is sqrt((n / ESS - 1) / n). If every weight is zero: (-inf, inf).
    """
    values = checked(log_w)
    n = len(values)
    effective = ess(values)
    if effective == 0:
        return Estimate(-np.inf, np.inf)
    variance = max(n / effective - 1, 0.0) / n
    return Estimate(float(logsumexp(values) - np.log(n)), float(np.sqrt(variance)))


def log_z_bootstrap(
    log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, repeats: int = 200, seed: int = 0
) -> Estimate:
    """Log of the mean weight with the bootstrap error over samples, or over lineages if given."""
    values = checked(log_w)
    if not np.isfinite(values).any():
        return Estimate(-np.inf, np.inf)
    shift = values.max()
    weights = np.exp(values - shift)
    blocks = np.arange(len(values)) if lineage is None else np.unique(lineage, return_inverse=True)[1]
    sums, sizes = np.bincount(blocks, weights), np.bincount(blocks)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(repeats):
        pick = rng.integers(len(sums), size=len(sums))
        means.append(sums[pick].sum() / sizes[pick].sum())
    logs = np.log(np.asarray(means)[np.asarray(means) > 0])
    error = float(np.std(logs, ddof=1)) if len(logs) == repeats else np.inf
    return Estimate(float(logsumexp(values) - np.log(len(values))), error)


def log_z_ancestors(log_w: ArrayLike, ancestors: NDArray[np.int64], n_ancestors: int) -> Estimate:
    """Log of the mean weight of resampled particles, with the error that their ancestors imply.

    Ancestor a, one of `n_ancestors` independent draws, holds the share W_a of the weight, zero if its line died out.
    The error is sqrt(N / (N - 1) sum_a (W_a - 1/N)^2), which without resampling is that of `log_z`
    (Lee and Whiteley, arXiv 1509.00394).
    """
    values = checked(log_w)
    if not np.isfinite(values).any():
        return Estimate(-np.inf, np.inf)
    shares = np.bincount(np.unique(ancestors, return_inverse=True)[1], weights=normalised(values))
    extinct = n_ancestors - len(shares)
    spread = float(np.sum((shares - 1 / n_ancestors) ** 2)) + extinct / n_ancestors**2
    error = np.sqrt(spread * n_ancestors / max(n_ancestors - 1, 1))
    return Estimate(float(logsumexp(values) - np.log(len(values))), float(error))


def k_hat(log_w: ArrayLike) -> float:
    """Shape of a generalised Pareto fit to the largest weights (PSIS k-hat).

    The tail is the ceil(min(n / 5, 3 sqrt n)) largest weights above the next one. Below 0.5 the variance of
    the weights is finite, above about 0.7 estimates from them cannot be trusted at any practical n.

    Returns
    -------
    float
        k-hat; 0 where the largest weights are equal (no tail), inf where fewer than five of them are left to fit.

    Notes
    -----
    Vehtari et al., arXiv 1507.02646, sections 2 and 6; its prior (k = 0.5, worth ten samples) is included.
    """
    values = np.sort(checked(log_w))
    n = len(values)
    size = int(np.ceil(min(0.2 * n, 3 * np.sqrt(n))))
    if size < MIN_TAIL or not np.isfinite(values[-1]):
        return np.inf
    scaled = np.exp(values[-size - 1 :] - values[-1])
    excess = scaled[1:] - scaled[0]
    if excess[-1] < FLAT:
        return 0.0
    excess = excess[excess > 0]
    if len(excess) < MIN_TAIL:
        return np.inf
    return pareto_shape(excess)


def pareto_shape(excess: NDArray[np.float64]) -> float:
    """Shape k of a generalised Pareto distribution, from ascending positive excesses over its threshold.

    Zhang and Stephens (2009), Technometrics 51, 316: the posterior mean of theta = -k / sigma over a grid of
    profile likelihoods; then shrunk towards 0.5 as in appendix C of arXiv 1507.02646.
    """
    n = len(excess)
    grid = 30 + int(np.sqrt(n))
    quartile = excess[int(n / 4 + 0.5) - 1]
    steps = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    theta = 1 / excess[-1] + steps / (3 * quartile)
    shapes = np.log1p(-theta[:, None] * excess).mean(axis=1)
    profile = n * (np.log(-theta / shapes) - shapes - 1)
    theta_mean = float(np.sum(theta * np.exp(profile - logsumexp(profile))))
    shape = float(np.log1p(-theta_mean * excess).mean())
    return (n * shape + 10 * 0.5) / (n + 10)


def resample(
    weights: NDArray[np.float64], n: int, *, seed: int = 0, scheme: Scheme = "systematic"
) -> NDArray[np.int64]:
    """Draw `n` indices with probabilities proportional to `weights`, ascending.

    Parameters
    ----------
    weights
        (m,) non-negative, not all zero.
    scheme
        ``systematic`` (one uniform number, least noise; equal weights are strided without repeats),
        ``stratified`` (one per stratum) or ``multinomial`` (independent draws).

    Raises
    ------
    InputError
        If the weights cannot be normalised or the scheme is unknown.
    """
    if scheme not in get_args(Scheme):
        raise InputError(f"resampling scheme: {scheme!r} is unknown; choose one of {', '.join(get_args(Scheme))}")
    total = np.cumsum(np.asarray(weights, dtype=np.float64))
    if not len(total) or not np.isfinite(total[-1]) or total[-1] <= 0 or np.min(weights) < 0:
        raise InputError(
            "resampling weights: they must be finite, non-negative and not all zero; check the log weights"
        )
    rng = np.random.default_rng(seed)
    if scheme == "multinomial":
        points = np.sort(rng.random(n))
    else:
        points = (np.arange(n) + rng.random(1 if scheme == "systematic" else n)) / n
    # Dividing by the last entry makes it exactly one; flat stretches (zero weights) are stepped over by
    # side="right".
    last = int(np.flatnonzero(weights)[-1])
    return np.minimum(np.searchsorted(total / total[-1], points, side="right"), last).astype(np.int64)
