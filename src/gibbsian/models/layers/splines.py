"""Monotone rational-quadratic splines on the unit interval (Durkan et al., arXiv 1906.04032).

Widths, heights and slopes come out of a network through a soft clip that keeps slopes in (r, 1/r), so that eight
stacked layers stay invertible in float32; zero parameters are the identity.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SLOPE_MIN = 0.05


class Knots(NamedTuple):
    """Knots of one spline per element: `x`, `y` (..., K+1) from 0 to 1, `slopes` (..., K+1) > 0."""

    x: Tensor
    y: Tensor
    slopes: Tensor


def make_knots(widths: Tensor, heights: Tensor, slopes: Tensor, slope_min: float = SLOPE_MIN) -> Knots:
    """Turn unconstrained widths (..., K), heights (..., K) and log slopes (..., K+1) into knots.

    With ``l = -log slope_min``: widths and heights are the softmax of ``p / (1 + 2 |p| / l)``, slopes the exponential
    of ``p / (1 + |p| / l)``.
    """
    limit = -math.log(slope_min)

    def positions(p: Tensor) -> Tensor:
        fractions = torch.softmax(p / (1.0 + (2.0 / limit) * p.abs()), -1)
        return functional.pad(fractions.cumsum(-1), (1, 0))

    log_slopes = slopes / (1.0 + slopes.abs() / limit)
    return Knots(positions(widths), positions(heights), torch.exp(log_slopes))


class _Bin(NamedTuple):
    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


def _find(values: Tensor, edges: Tensor, knots: Knots) -> _Bin:
    """Gather the bin of `edges` that holds each value."""
    index = (values[..., None] >= edges[..., 1:-1]).sum(-1, keepdim=True)

    def take(t: Tensor, shift: int) -> Tensor:
        return t.gather(-1, index + shift).squeeze(-1)

    x, y = take(knots.x, 0), take(knots.y, 0)
    return _Bin(
        x, y, take(knots.x, 1) - x, take(knots.y, 1) - y, take(knots.slopes, 0), take(knots.slopes, 1)
    )


def _log_derivative(xi: Tensor, slope: Tensor, excess: Tensor, b: _Bin) -> Tensor:
    g = xi * (1.0 - xi)
    numerator = b.right * xi.square() + 2.0 * slope * g + b.left * (1.0 - xi).square()
    return 2.0 * torch.log(slope) + torch.log(numerator) - 2.0 * torch.log(slope + excess * g)


def rational_quadratic(x: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """Map `x` in [0, 1] to [0, 1]; return the image and log dy/dx. Values outside are taken at the nearer end."""
    x = x.clamp(0.0, 1.0)
    b = _find(x, knots.x, knots)
    xi = ((x - b.x) / b.width).clamp(0.0, 1.0)
    slope = b.height / b.width
    excess = b.left + b.right - 2.0 * slope
    g = xi * (1.0 - xi)
    y = b.y + b.height * (slope * xi.square() + b.left * g) / (slope + excess * g)
    return y, _log_derivative(xi, slope, excess, b)


def rational_quadratic_inverse(y: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """Inverse of `rational_quadratic`; return x and log dx/dy."""
    y = y.clamp(0.0, 1.0)
    b = _find(y, knots.y, knots)
    slope = b.height / b.width
    excess = b.left + b.right - 2.0 * slope
    v = y - b.y
    quadratic = b.height * (slope - b.left) + v * excess
    linear = b.height * b.left - v * excess
    root = torch.sqrt((linear.square() + 4.0 * quadratic * slope * v).clamp_min(0.0))
    xi = (2.0 * slope * v / (linear + root)).clamp(0.0, 1.0)
    return b.x + xi * b.width, -_log_derivative(xi, slope, excess, b)
