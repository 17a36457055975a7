"""Averages and basin free energies of weighted samples, with errors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gibbsian.ensemble.weights import Estimate, normalised
from gibbsian.errors import InputError

REPEATS = 500
"""Bootstrap repeats over lineages."""
TIME_BLOCKS = 10
"""Pieces into which a single lineage is cut, in the order of its samples, to get an error at all."""


def blocks_of(lineage: NDArray[np.int64]) -> NDArray[np.int64]:
    """Block (n,) of each sample, counted from zero: its lineage, or contiguous tenths of a single one."""
    blocks = np.unique(lineage, return_inverse=True)[1]
    if blocks.max(initial=0) > 0:
        return blocks
    n = len(lineage)
    return np.arange(n) * min(TIME_BLOCKS, n) // max(n, 1)


def mean(
    values: ArrayLike, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted averages over the samples and their standard errors.

    Parameters
    ----------
    values
        (n, ...) one value, or an array of them, for each sample; those of weight zero are not looked at.
    log_w
        (n,) log weights.
    lineage
        (n,) independent source of each sample. None: the samples are independent and the error is the
        delta-method one, sqrt(sum W^2 (f - <f>)^2). Otherwise it is a bootstrap over whole lineages.

    Returns
    -------
    value, error
        Arrays of shape ``values.shape[1:]``.

    Raises
    ------
    InputError
        If lengths differ, every weight is zero, or a value of non-zero weight is not finite.
    """
    weights = normalised(log_w)
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) != len(weights):
        raise InputError(f"expectation: {array.shape} values for {len(weights)} samples; give one value per sample")
    shape = array.shape[1:]
    used = weights > 0
    weights, flat = weights[used], array[used].reshape(int(used.sum()), -1)
    if not np.isfinite(flat).all():
        frame = np.flatnonzero(used)[np.flatnonzero(~np.isfinite(flat).all(axis=1))[0]]
        raise InputError(f"expectation: value of sample {frame} is not finite; give such samples a log weight of -inf")
    average = weights @ flat
    if lineage is None:
        error = np.sqrt((weights**2) @ (flat - average) ** 2)
    else:
        error = _block_error(weights, flat - average, blocks_of(np.asarray(lineage))[used], seed)
    return average.reshape(shape), error.reshape(shape)


def _block_error(
    weights: NDArray[np.float64], centred: NDArray[np.float64], blocks: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Bootstrap error (k,) over blocks of the weighted mean of `centred` (n, k); inf for one block."""
    labels, blocks = np.unique(blocks, return_inverse=True)
    n_blocks = len(labels)
    if n_blocks < 2:
        return np.full(centred.shape[1], np.inf)
    mass = np.bincount(blocks, weights, n_blocks)
    sums = np.zeros((n_blocks, centred.shape[1]))
    np.add.at(sums, blocks, weights[:, None] * centred)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=REPEATS).astype(np.float64)
    # Blocks resampled with replacement spread too little by (L - 1) / L; with few ladders that matters.
    spread = np.var((counts @ sums) / (counts @ mass)[:, None], axis=0, ddof=1)
    return np.sqrt(spread * n_blocks / (n_blocks - 1))


def expectation(
    values: ArrayLike, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, seed: int = 0
) -> Estimate:
    """Weighted average of one value per sample (n,), with its error; see `mean`."""
    value, error = mean(values, log_w, lineage=lineage, seed=seed)
    if value.ndim:
        raise InputError(f"expectation: values of shape {value.shape} per sample; give one number per sample")
    return Estimate(float(value), float(error))


def circular_mean(
    angles: ArrayLike, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, seed: int = 0
) -> Estimate:
    """Direction (rad) of the weighted mean of unit vectors at `angles` (n,), with its linearised error."""
    theta = np.asarray(angles, dtype=np.float64)
    (cosine, sine), _ = mean(np.stack([np.cos(theta), np.sin(theta)], axis=1), log_w, lineage=lineage, seed=seed)
    length = float(np.hypot(cosine, sine))
    direction = float(np.arctan2(sine, cosine))
    if length == 0:
        return Estimate(direction, np.inf)
    across = expectation(np.sin(theta - direction), log_w, lineage=lineage, seed=seed)
    return Estimate(direction, across.error / length)


def free_energy(
    mask: ArrayLike, log_w: ArrayLike, *, lineage: NDArray[np.int64] | None = None, seed: int = 0
) -> Estimate:
    """Free energy -ln(P / (1 - P)) in kT of the basin marked by `mask` (n,), with its error.

    The error is that of P (see `mean`) divided by P (1 - P). An empty basin has (inf, inf), a full one (-inf, inf).
    """
    inside = np.asarray(mask)
    if inside.dtype != np.bool_:
        raise InputError(f"basin mask: dtype {inside.dtype}; give a boolean array, True inside the basin")
    p, error = expectation(inside, log_w, lineage=lineage, seed=seed)
    if not inside.any() or p <= 0:
        return Estimate(np.inf, np.inf)
    if inside.all() or p >= 1:
        return Estimate(-np.inf, np.inf)
    return Estimate(float(-np.log(p / (1 - p))), error / (p * (1 - p)))
