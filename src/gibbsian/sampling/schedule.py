"""Where the levels of annealed sampling lie, and what a step between two of them does to the weights."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.sampling.bridge import Coefficients, Particles

Interpolant = Literal["linear", "tempered"]
HALVINGS = 40


def coefficients(t: float, interpolant: Interpolant = "linear", coolest: float = 0.7) -> Coefficients:
    """Weights of u0 and u1 at t from 0 to 1.

    ``linear``: U_t = (1 - t) u0 + t u1. ``tempered``: that times 1 - 4 (1 - `coolest`) t (1 - t), an inverse
    temperature which falls to `coolest` half-way, where barriers are lower.
    """
    if interpolant not in get_args(Interpolant):
        raise InputError(f"interpolant: got {interpolant!r}; choose one of {', '.join(get_args(Interpolant))}")
    beta = 1.0 if interpolant == "linear" else 1.0 - 4.0 * (1.0 - coolest) * t * (1.0 - t)
    return Coefficients(beta * (1.0 - t), beta * t)


def increment(particles: Particles, before: Coefficients, after: Coefficients) -> Tensor:
    """Log-weight (B,) that a step from one level to the next adds; -inf where there is no density."""
    sound = torch.isfinite(particles.u0) & torch.isfinite(particles.u1)
    zero = torch.zeros_like(particles.u0)
    u0, u1 = torch.where(sound, particles.u0, zero), torch.where(sound, particles.u1, zero)
    change = (before.first - after.first) * u0 + (before.second - after.second) * u1
    return torch.where(sound, change, -torch.inf)


def conditional_ess(log_w: Tensor, change: Tensor) -> float:
    """Effective fraction (sum W v)^2 / sum W v^2 of a step that multiplies weights W by v, both given as logs."""
    total = torch.logsumexp(log_w, 0)
    if not bool(torch.isfinite(total)):
        return 0.0
    log_v = torch.where(torch.isfinite(log_w), change, -torch.inf)
    first, second = torch.logsumexp(log_w + log_v, 0), torch.logsumexp(log_w + 2 * log_v, 0)
    return float(torch.exp(2 * first - second - total)) if bool(torch.isfinite(second)) else 0.0


def next_time(
    particles: Particles,
    log_w: Tensor,
    t: float,
    *,
    levels_left: int,
    wanted: float | None,
    interpolant: Interpolant = "linear",
    coolest: float = 0.7,
) -> float:
    """Return t of the next level.

    Parameters
    ----------
    log_w
        (B,) present log weights.
    levels_left
        At most so many levels may still follow; with one left it is 1.
    wanted
        Conditional effective fraction that the step shall keep; None takes equal steps.

    Returns
    -------
    float
        Above t, at most 1; never less than an equal share of what is left, so that the levels suffice.
    """
    least = 1.0 if levels_left <= 1 else t + (1.0 - t) / levels_left
    if wanted is None or least == 1.0:
        return least
    here = coefficients(t, interpolant, coolest)

    def kept(time: float) -> float:
        return conditional_ess(log_w, increment(particles, here, coefficients(time, interpolant, coolest)))

    if kept(1.0) >= wanted:
        return 1.0
    low, high = least, 1.0
    if kept(low) < wanted:
        return low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept(middle) >= wanted else (low, middle)
    return low
