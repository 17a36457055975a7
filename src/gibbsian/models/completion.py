"""Completion densities q(c | y): what frozen coordinates do, given the free ones, so that weights become exact.

With any normalised q(c | y) of full support, ``log w = -u(x(y, c)) + log J(y, c) - log q(y) - log q(c | y)`` belongs to
the unconstrained Boltzmann distribution. The domain is the one of the other internal-coordinate models: bonds
positive, angles in (0, pi), deltas within 60 degrees of their mean (one handedness), rings and rotors on the circle.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gibbsian.coords.internal import log_jacobian, mean_free_constant, wrap
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.models.layers.coupling import SplineCoupling, count_features, features
from gibbsian.models.standardise import DELTA_HALF_WIDTH, HARMONICS

_FIXED = 1e-12
_LONGEST = 1e3
"""Nm; an infinite end of an interval would put NaN into gradients."""
_ANGLE, _ANGLE_SPREAD = 2.0, 0.1
_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


@runtime_checkable
class Completion(Protocol):
    """A normalised density of the frozen coordinates c (B, m) given the free ones y (B, n), rad and nm, float64."""

    def sample(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw c (B, m), differentiable in y, and log q(c | y), (B,)."""
        ...

    def log_prob(self, c: Tensor, y: Tensor) -> Tensor:
        """Return log q(c | y), (B,); -inf outside the domain."""
        ...


def count_regressors(coordinates: ReducedCoordinates) -> int:
    """Width of `regressors`."""
    periodic = coordinates.variables.periodic
    return 1 + 2 * HARMONICS * int(periodic.sum()) + int((~periodic).sum())


def regressors(coordinates: ReducedCoordinates, y: Tensor) -> Tensor:
    """One, then cos and sin of two harmonics of every free torsion, then free angles: (B, 1 + f), all of order one."""
    periodic = torch.from_numpy(coordinates.variables.periodic)
    circle, line = torch.nonzero(periodic)[:, 0], torch.nonzero(~periodic)[:, 0]
    turns = torch.where(periodic, y / (2.0 * math.pi), (y - _ANGLE) / _ANGLE_SPREAD)
    return torch.cat([torch.ones_like(y[:, :1]), features(turns, circle, line)], -1)


class GaussianCompletion(nn.Module):
    """Gaussian with a mean linear in functions of y, cut to the domain with its exact normaliser.

    One coordinate after the other is a normal variable cut to its interval, given those before it. Where the intervals
    are wide this is the joint Gaussian; the normaliser is exact in any case. It is also a bijection between the domain
    and whitened variables over the whole line.

    Parameters
    ----------
    coordinates
        Which coordinates are frozen.
    centre
        (m,) middle of the interval of a delta, and what deviations refer to.
    regression
        (m, 1 + f) coefficients of the mean deviation on `regressors`.
    cholesky
        (m, m) lower triangular factor of the covariance.
    """

    centre: Tensor
    regression: Tensor
    cholesky: Tensor

    def __init__(self, coordinates: ReducedCoordinates, centre: Tensor, regression: Tensor, cholesky: Tensor) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.register_buffer("centre", centre.double())
        self.register_buffer("regression", regression.double())
        self.register_buffer("cholesky", cholesky.double())
        self._torsion = torch.from_numpy(coordinates.frozen.torsion)
        self._low, self._high = _bounds(coordinates, self.centre)

    def sample(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw c (B, m), differentiable in y, and log q(c | y), (B,)."""
        white = torch.randn(len(y), len(self.centre), generator=generator, dtype=torch.float64)
        c = self.unwhiten(white, y)
        return c, self.log_prob(c, y)

    def log_prob(self, c: Tensor, y: Tensor) -> Tensor:
        """Return log q(c | y), (B,), float64; -inf outside the domain."""
        cut = self._cut(c, y)
        log_q = (-0.5 * cut.noise.square() - _LOG_SQRT_2_PI - cut.log_mass).sum(-1)
        return torch.where(cut.inside, log_q - self.cholesky.diagonal().log().sum(), -torch.inf)

    def whiten(self, c: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Variables (B, m), standard normal and independent under this density, and log |d white / d c|, (B,).

        The second is -inf outside the domain.
        """
        cut = self._cut(c, y)
        white = _uncut(cut)
        log_det = (0.5 * (white.square() - cut.noise.square()) - cut.log_mass).sum(-1)
        log_det = log_det - self.cholesky.diagonal().log().sum()
        return white, torch.where(cut.inside, log_det, -torch.inf)

    def unwhiten(self, white: Tensor, y: Tensor) -> Tensor:
        """Inverse of `whiten`: c (B, m)."""
        mean, scale = self._mean(y), self.cholesky.diagonal()
        strict = self.cholesky.tril(-1)
        noise = white
        # Each interval depends on the noise before it: after k rounds the first k are right, and as hardly any is cut
        # nearly all are right after one.
        for _ in range(len(scale) + 1):
            shift = mean + noise @ strict.T
            new = _squeeze(white, (self._low - shift) / scale, (self._high - shift) / scale)
            change = float((new - noise).detach().abs().max())
            noise = new
            if change < _FIXED:
                break
        c = self.centre + mean + noise @ self.cholesky.T
        return torch.where(self._torsion, wrap(c), c)

    def _mean(self, y: Tensor) -> Tensor:
        return regressors(self.coordinates, y.double()) @ self.regression.T

    def _cut(self, c: Tensor, y: Tensor) -> "_Cut":
        deviation = c.double() - self.centre
        deviation = torch.where(self._torsion, wrap(deviation), deviation)
        inside = ((deviation > self._low) & (deviation < self._high)).all(-1)
        deviation = torch.where(inside[:, None], deviation, 0.0)  # keeps NaN out of gradients
        away = deviation - self._mean(y)
        scale = self.cholesky.diagonal()
        noise = torch.linalg.solve_triangular(self.cholesky, away.T, upper=False).T
        shift = deviation - scale * noise
        low, high = (self._low - shift) / scale, (self._high - shift) / scale
        return _Cut(noise, low, high, _log_mass(low, high), inside)


class FlowCompletion(nn.Module):
    """Conditional spline couplings on the whitened variables of a Gaussian completion; starts as that Gaussian.

    Parameters
    ----------
    base
        Fitted Gaussian; it keeps the domain, which the flow cannot leave.
    couplings
        Layers, in pairs.
    bins, hidden, depth, bound
        As in `SplineConfig`.
    seed
        Of the random halves and the first weights.
    """

    def __init__(
        self,
        base: GaussianCompletion,
        couplings: int = 2,
        bins: int = 8,
        hidden: int = 64,
        depth: int = 2,
        bound: float = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.base = base
        variables, m = base.coordinates.variables, base.coordinates.frozen.n
        periodic = torch.from_numpy(variables.periodic)
        self._circle, self._line = torch.nonzero(periodic)[:, 0], torch.nonzero(~periodic)[:, 0]
        width = count_features(len(self._circle), len(self._line))
        line = torch.zeros(m, dtype=torch.bool)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = []
            for _ in range(max(couplings // 2, 1)):
                half = torch.randperm(m, generator=generator) < m // 2
                layers += [SplineCoupling(line, part, width, bins, hidden, depth, bound) for part in (half, ~half)]
        self.layers = nn.ModuleList(layers)

    def sample(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw c (B, m), differentiable, and log q(c | y), (B,)."""
        dtype = next(self.layers.parameters()).dtype
        v = torch.randn(len(y), self.base.coordinates.frozen.n, generator=generator, dtype=dtype)
        context = self._context(y).to(dtype)
        for layer in reversed(self.layers):
            assert isinstance(layer, SplineCoupling)
            v, _ = layer.inverse(v, context)
        c = self.base.unwhiten(v.double(), y)
        return c, self.log_prob(c, y)

    def log_prob(self, c: Tensor, y: Tensor) -> Tensor:
        """Return log q(c | y), (B,), float64; -inf outside the domain."""
        white, log_det = self.base.whiten(c, y)
        dtype = next(self.layers.parameters()).dtype
        v, context = white.to(dtype), self._context(y).to(dtype)
        total = v.new_zeros(len(v))
        for layer in self.layers:
            v, change = layer(v, context)
            total = total + change
        normal = (-0.5 * v.square() - _LOG_SQRT_2_PI).sum(-1)
        return (normal + total).double() + log_det

    def _context(self, y: Tensor) -> Tensor:
        return regressors(self.base.coordinates, y)[:, 1:]


def complete(
    coordinates: ReducedCoordinates, completion: Completion, y: Tensor, log_q: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the frozen coordinates of free ones `y` (B, n) that have the log density `log_q` (B,), over dy in rad.

    Returns
    -------
    Centred conformations (B, n_atoms, 3) nm and their log density (B,) in the mean-free orthonormal measure. Where a
    free angle is not in (0, pi): NaN and -inf.
    """
    c, log_q_c = completion.sample(y, generator)
    internal = coordinates.join(y.double(), c)
    x, log_j = coordinates.full.inverse(internal)
    inside = ((internal.angles > 0.0) & (internal.angles < math.pi)).all(-1)
    density = log_q.double() + log_q_c - log_j - mean_free_constant(coordinates.n_atoms)
    x = torch.where(inside[:, None, None], x - x.mean(1, keepdim=True), torch.nan)
    return x, torch.where(inside, density, -torch.inf)


def completed_log_prob(coordinates: ReducedCoordinates, completion: Completion, x: Tensor) -> tuple[Tensor, Tensor]:
    """Free coordinates (B, n) of `x` (B, n_atoms, 3) nm, and what to add to their log density, (B,).

    The sum is the log density of x in the mean-free orthonormal measure.
    """
    internal, _ = coordinates.full.forward(x.double())
    y, c = coordinates.split(internal)
    constant = mean_free_constant(coordinates.n_atoms)
    return y, completion.log_prob(c, y) - log_jacobian(internal) - constant


@dataclass(frozen=True, eq=False)
class _Cut:
    """Noise of the sequence of cut normal variables, their intervals in the same units, the log mass within, (B, m)."""

    noise: Tensor
    low: Tensor
    high: Tensor
    log_mass: Tensor
    inside: Tensor


def _bounds(coordinates: ReducedCoordinates, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Interval (m,) of each deviation from the centre."""
    frozen = coordinates.frozen
    half = torch.full_like(centre, math.pi)
    half[torch.from_numpy(frozen.of("delta"))] = DELTA_HALF_WIDTH
    low, high = -half, half.clone()
    for mask, end in ((frozen.of("angle"), math.pi), (frozen.of("bond"), _LONGEST)):
        which = torch.from_numpy(mask)
        low[which], high[which] = -centre[which], end - centre[which]
    return low, high


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """Log of the probability of a standard normal variable between `low` and `high`, exact in either tail."""
    flip = low + high > 0.0
    near, far = torch.where(flip, -low, high), torch.where(flip, -high, low)  # far < near, both towards minus infinity
    log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
    return log_near + torch.log1p(-torch.exp(log_far - log_near))


def _squeeze(white: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Monotone map of the line onto (low, high) that makes a normal variable a cut normal one."""
    mass = torch.exp(_log_mass(low, high))
    below, above = _tail(low) + _tail(white) * mass, _tail(-high) + _tail(-white) * mass
    image = torch.special.ndtri(torch.minimum(below, above))
    # While intervals are not yet the final ones both tails may vanish; the ends keep that finite.
    return torch.clamp(torch.where(above < below, -image, image), low, high)


def _uncut(cut: _Cut) -> Tensor:
    """Inverse of `_squeeze`."""
    below, above = _log_mass(cut.low, cut.noise), _log_mass(cut.noise, cut.high)
    image = torch.special.ndtri(torch.exp(torch.minimum(below, above) - cut.log_mass))
    return torch.where(above < below, -image, image)


def _tail(x: Tensor) -> Tensor:
    """Probability below x of a standard normal variable; torch's own is zero below -8.3."""
    return torch.exp(torch.special.log_ndtr(x))
