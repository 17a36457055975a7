"""Integration of ordinary differential equations with adaptive steps, for all rows of a batch together."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torchdiffeq import odeint


def integrate(
    derivative: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    begin: float,
    end: float,
    tolerance: float,
    parts: tuple[int, ...],
) -> Tensor:
    """Integrate ``dy/dt = derivative(t, y)`` by the Dormand-Prince pair of order 5(4).

    All rows take the same steps. The error of a step is the largest over rows and parts, so that a row is integrated
    at least as well as alone: its neighbours can shorten its steps, not lengthen them, and change its result by no
    more than about the tolerance.

    Parameters
    ----------
    derivative
        Of scalar t and y (B, d), both float64; it must be defined between `begin` and `end` only.
    y
        (B, d) float64 values at `begin`, finite.
    tolerance
        Absolute and relative, of each step.
    parts
        Columns of each part of y, whose sum is d; the error of a part is the root of its mean square.
    """

    def norm(values: Tensor) -> Tensor:
        sizes = [part.square().mean(-1).max() for part in values.split(parts, -1)]
        return torch.sqrt(torch.stack(sizes).max())

    times = torch.tensor([begin, end], dtype=torch.float64, device=y.device)
    # A step that ends where the integral does: without it the solver goes beyond and interpolates back.
    options: dict[str, Any] = {"norm": norm, "step_t": times[1:]}
    path = odeint(derivative, y, times, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    return cast("Tensor", path)[-1]
