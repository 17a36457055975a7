"""How many peaks the energies of generated conformations have: Gaussian mixtures on the line, chosen by BIC."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from gibbsian.errors import InputError

Floats = NDArray[np.float64]

MOST = 3
"""Largest number of Gaussians."""
NARROWEST = 0.05
"""Least standard deviation of a Gaussian, in units of that of all values: one value alone is no peak."""
FENCE = 10.0
"""Interquartile ranges from the median beyond which values are left out unless a range is given."""
_BINS = 400
_ITERATIONS = 1000
_TRIAL = 40
"""Iterations after which only the best start goes on."""
_GAIN = 5e-3
"""Nats by which the likelihood must still rise in ten iterations."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians by rising mean: shares (k,), means (k,) and standard deviations (k,), and -2 log L + (3k-1) log n."""

    shares: Floats
    means: Floats
    deviations: Floats
    bic: float

    def log_density(self, values: Floats) -> Floats:
        """Log densities (n, k) of each Gaussian times its share."""
        return _log_parts(values, self.shares, self.means, self.deviations)

    @property
    def maxima(self) -> int:
        """Maxima of the density: fewer than the Gaussians where two of them make one skewed peak."""
        low, high = (self.means + sign * 4 * self.deviations for sign in (-1, 1))
        grid = np.linspace(low.min(), high.max(), 4000)
        density = np.exp(np.asarray(logsumexp(self.log_density(grid), axis=1)))
        inner = density[1:-1]
        return int(np.sum((inner > density[:-2]) & (inner >= density[2:]) & (inner > 1e-6 * density.max())))


@dataclass(frozen=True, eq=False)
class Peaks:
    """What the energies look like.

    Attributes
    ----------
    mixture
        The one with the lowest BIC.
    bic
        (3,) of one, two and three Gaussians.
    low, high
        Values looked at.
    outside
        Share of the values beyond, and of those that are not finite.
    n
        Values looked at.
    """

    mixture: Mixture
    bic: Floats
    low: float
    high: float
    outside: float
    n: int

    @property
    def count(self) -> int:
        """Number of Gaussians chosen; see also `Mixture.maxima`."""
        return len(self.mixture.means)

    def members(self, values: ArrayLike) -> NDArray[np.int64]:
        """Gaussian (n,) that each value most likely belongs to, 0 the lowest; -1 outside."""
        u = np.asarray(values, dtype=np.float64)
        inside = (u >= self.low) & (u <= self.high)
        found = np.full(len(u), -1, dtype=np.int64)
        found[inside] = self.mixture.log_density(u[inside]).argmax(axis=1)
        return found


def energy_peaks(values: ArrayLike, *, low: float | None = None, high: float | None = None) -> Peaks:
    """Fit one to three Gaussians to values, equally weighted, and choose by BIC.

    A peak in the energies of a generator is no population: see the reweighted weight of its `Peaks.members`. Energies
    of one harmonic basin are skewed, which several Gaussians fit better than one: then `Mixture.maxima` stays one.

    Parameters
    ----------
    values
        (n,) reduced energies; they may be infinite or NaN, which counts as outside.
    low, high
        Values looked at; by default ten interquartile ranges about the median, so that clashes do not matter.

    Raises
    ------
    InputError
        If fewer than 20 values, or only equal ones, lie inside.
    """
    u = np.asarray(values, dtype=np.float64)
    finite = u[np.isfinite(u)]
    first, middle, third = np.quantile(finite, [0.25, 0.5, 0.75]) if len(finite) else (np.nan,) * 3
    reach = FENCE * (third - first)
    low, high = float(middle - reach) if low is None else low, float(middle + reach) if high is None else high
    inside = finite[(finite >= low) & (finite <= high)]
    if len(inside) < 20 or np.ptp(inside) == 0:
        raise InputError(f"energy peaks: {len(inside)} of {len(u)} values inside, or all equal; give at least 20")
    # The likelihood of counts in narrow bins costs the same for any number of values.
    counts, edges = np.histogram(inside, bins=_BINS)
    centres, filled = (edges[1:] + edges[:-1]) / 2, counts > 0
    fits = [_fit(centres[filled], counts[filled].astype(np.float64), k) for k in range(1, MOST + 1)]
    bic = np.array([fit.bic for fit in fits])
    return Peaks(fits[int(bic.argmin())], bic, low, high, 1 - len(inside) / len(u), len(inside))


def _log_parts(x: Floats, shares: Floats, means: Floats, deviations: Floats) -> Floats:
    """Log of share times density, (..., n, k), of Gaussians (..., k) at `x` (n,)."""
    z = (x[:, None] - means[..., None, :]) / deviations[..., None, :]
    with np.errstate(divide="ignore"):
        scale = np.log(shares) - np.log(deviations) - 0.5 * np.log(2 * np.pi)
    return scale[..., None, :] - 0.5 * z * z


def _fit(x: Floats, counts: Floats, k: int) -> Mixture:
    """Maximise the likelihood of `counts` at `x` by expectation maximisation from several starts at once."""
    n = counts.sum()
    mean = counts @ x / n
    spread = np.sqrt(counts @ (x - mean) ** 2 / n)
    shares, means, deviations = _starts(x, counts, k, spread)
    previous, log_l = -np.inf, np.zeros(len(means))
    for iteration in range(_ITERATIONS):
        parts = _log_parts(x, shares, means, deviations)
        top = parts.max(axis=-1, keepdims=True)
        duty = np.exp(parts - top)
        total = duty.sum(axis=-1, keepdims=True)
        log_l = (np.log(total) + top)[..., 0] @ counts
        if iteration >= _TRIAL and iteration % 10 == 0:
            if log_l.max() - previous < _GAIN:
                break
            previous = log_l.max()
        duty *= counts[:, None] / total
        if iteration == _TRIAL:
            best = int(np.argmax(log_l))
            duty, log_l = duty[best : best + 1], log_l[best : best + 1]
        mass = np.maximum(duty.sum(axis=-2), 1e-9)
        means = np.einsum("snk,n->sk", duty, x) / mass
        squares = np.einsum("snk,snk->sk", duty, (x[:, None] - means[:, None, :]) ** 2)
        deviations = np.sqrt(np.maximum(squares / mass, (NARROWEST * spread) ** 2))
        shares = mass / n
    best = int(np.argmax(log_l))
    order = np.argsort(means[best])
    bic = -2 * float(log_l[best]) + (3 * k - 1) * np.log(n)
    return Mixture(shares[best][order], means[best][order], deviations[best][order], bic)


def _starts(x: Floats, counts: Floats, k: int, spread: float) -> tuple[Floats, Floats, Floats]:
    """Shares, means and deviations (starts, k): even quantiles, and a broad peak with small ones beside it."""
    quantiles = {
        1: [[0.5]],
        2: [[0.25, 0.75], [0.5, 0.98], [0.02, 0.5], [0.5, 0.5]],
        3: [[0.17, 0.5, 0.83], [0.5, 0.9, 0.99], [0.02, 0.5, 0.98], [0.01, 0.1, 0.5]],
    }[k]
    place = np.interp(np.array(quantiles), np.cumsum(counts) / counts.sum(), x)
    narrow = np.full(place.shape, spread * (1.0 if k == 1 else 0.6))
    if k == 2:
        narrow[3] = spread * np.array([0.5, 1.4])  # two of one mean: heavy tails
    return np.full(place.shape, 1 / k), place, narrow
