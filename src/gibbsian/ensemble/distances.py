"""Distances between ensembles: energies, torsions, Ramachandran plots.

Each is zero only for equal distributions and infinitely many samples, so each is to be read beside its
floor: the same distance between two disjoint parts of the reference at the same sample size (see `split_reference`).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gibbsian.errors import InputError

Floats = NDArray[np.float64]


def wasserstein(
    a: Floats, b: Floats, *, weights_a: Floats | None = None, weights_b: Floats | None = None, order: int = 1
) -> float:
    """Exact Wasserstein distance on the line, (int_0^1 |F_a^-1 - F_b^-1|^order dq)^(1/order).

    Parameters
    ----------
    a, b
        (n,), (m,) values; those of weight zero may be anything.
    weights_a, weights_b
        Non-negative, normalised here; None for equal weights.
    order
        1 (E-W1) or 2 (E-W2).
    """
    points_a, cumulative_a = _quantiles(a, weights_a)
    points_b, cumulative_b = _quantiles(b, weights_b)
    grid = np.concatenate([cumulative_a, cumulative_b])
    grid.sort(kind="stable")
    # Both inverse distribution functions are constant between neighbouring grid points.
    width = np.diff(grid, prepend=0.0)
    middle = grid - width / 2
    values_a = points_a[np.minimum(np.searchsorted(cumulative_a, middle), len(points_a) - 1)]
    values_b = points_b[np.minimum(np.searchsorted(cumulative_b, middle), len(points_b) - 1)]
    return float((width @ np.abs(values_a - values_b) ** order) ** (1 / order))


def _quantiles(values: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    used = weights > 0
    points, weights = np.asarray(values, dtype=np.float64)[used], weights[used]
    if len(points) == 0 or not np.isfinite(points).all():
        raise InputError(
            "Wasserstein distance: values of positive weight must exist and be finite; drop the others first"
        )
    order = np.argsort(points, kind="stable")
    cumulative = np.cumsum(weights[order])
    cumulative /= cumulative[-1]
    return points[order], cumulative


def torus_w2(a: Floats, b: Floats) -> float:
    """2-Wasserstein distance (rad) between equal-weight samples on a torus.

    The cost of a pair is the sum over angles of the squared shorter arc; the assignment is exact.

    Parameters
    ----------
    a, b
        (n, k) angles in rad, as many rows in one as in the other. A few thousand rows take seconds.
    """
    if a.shape != b.shape:
        raise InputError(f"torus distance: {a.shape} against {b.shape} angles; give two samples of one shape")
    cost = np.zeros((len(a), len(b)))
    for k in range(a.shape[1]):
        arc = np.abs(a[:, k, None] - b[None, :, k])
        np.minimum(arc, 2 * np.pi - arc, out=arc)
        cost += arc * arc
    return _assignment_w2(cost)


def plane_w2(a: Floats, b: Floats) -> float:
    """2-Wasserstein distance between equal-weight samples (n, k) in flat space, exact assignment."""
    if a.shape != b.shape:
        raise InputError(f"distance: {a.shape} against {b.shape} points; give two samples of one shape")
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * a @ b.T
    return _assignment_w2(np.maximum(squares, 0.0))


def _assignment_w2(cost: Floats) -> float:
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def histogram(angles: Floats, bins: int) -> Floats:
    """Share (m, bins, bins) of the samples in each square of the Ramachandran plot of each residue.

    Parameters
    ----------
    angles
        (n, m, 2) phi and psi in rad.
    """
    index = np.floor((angles + np.pi) / (2 * np.pi) * bins).astype(np.int64) % bins
    n, m = angles.shape[:2]
    cell = (np.arange(m) * bins + index[..., 0]) * bins + index[..., 1]
    return np.bincount(cell.ravel(), minlength=m * bins * bins).reshape(m, bins, bins) / max(n, 1)


def ramachandran_jsd(a: Floats, b: Floats, *, bins: int = 36) -> float:
    """Jensen-Shannon divergence in bits between Ramachandran histograms, mean over residues.

    Parameters
    ----------
    a, b
        (n, m, 2) phi and psi of m residues, equal weights; `bins` by `bins` squares per residue.
    """
    p, q = histogram(a, bins), histogram(b, bins)
    centre = (p + q) / 2
    return float((_relative_entropy(p, centre) + _relative_entropy(q, centre)).mean() / 2)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    """Relative entropy (m,) in bits of histograms (m, bins, bins); q is positive wherever p is."""
    filled = p > 0
    ratio = np.divide(p, q, out=np.ones_like(p), where=filled)
    return (p * np.log2(ratio)).sum(axis=(1, 2))


def ramachandran_tv(a: Floats, b: Floats, *, bins: int = 100) -> float:
    """Total-variation distance between Ramachandran histograms, mean over residues."""
    return float(0.5 * np.abs(histogram(a, bins) - histogram(b, bins)).sum(axis=(1, 2)).mean())


def split_reference(blocks: NDArray[np.int64], *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide samples into two disjoint halves, whole blocks together, blocks drawn at random.

    Parameters
    ----------
    blocks
        (n,) block of each sample, counted from zero (lineages, or stretches of one trajectory).

    Returns
    -------
    Indices of either half, ascending.
    """
    n_blocks = int(blocks.max(initial=-1)) + 1
    if n_blocks < 2:
        raise InputError(f"floor: the reference has {n_blocks} block; give at least two lineages or two samples")
    order = np.random.default_rng(seed).permutation(n_blocks)
    first = np.zeros(n_blocks, dtype=np.bool_)
    first[order[: n_blocks // 2]] = True
    chosen = first[blocks]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
