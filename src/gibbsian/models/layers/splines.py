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


def make_knots(p: Tensor, slope_min: float = SLOPE_MIN) -> Tensor:
    """Turn unconstrained parameters (..., 3K+1) into the knots (..., 3, K+1): positions, images, slopes.

    The parameters are K widths, K heights and K+1 log slopes. With ``l = -log slope_min``: widths and heights are the
    softmax of ``p / (1 + 2 |p| / l)``, slopes the exponential of ``p / (1 + |p| / l)``.
    """
    bins = (p.shape[-1] - 1) // 3
    limit = -math.log(slope_min)
    sharpness = p.new_full((3 * bins + 1,), 1.0 / limit)
    sharpness[: 2 * bins] *= 2.0
    # The clip bounds every exponent by `limit`, so neither the exponential nor the softmax can overflow.
    positive = torch.exp(p / (1.0 + sharpness * p.abs()))
    sizes = positive[..., : 2 * bins].unflatten(-1, (2, bins))
    cumulative = sizes.cumsum(-1)
    edges = functional.pad(cumulative / cumulative[..., -1:], (1, 0))
    return torch.cat([edges, positive[..., None, 2 * bins :]], -2)


class _Bin(NamedTuple):
    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


def _find(values: Tensor, knots: Tensor, row: int) -> _Bin:
    """Gather the bin that holds each value, by position (row 0) or image (row 1)."""
    index = (values[..., None] >= knots[..., row, 1:-1]).sum(-1)
    both = torch.stack([index, index + 1], -1)[..., None, :].expand(*index.shape, 3, 2)
    (x, x_next), (y, y_next), (left, right) = (row.unbind(-1) for row in knots.gather(-1, both).unbind(-2))
    return _Bin(x, y, x_next - x, y_next - y, left, right)


def _log_derivative(xi: Tensor, slope: Tensor, excess: Tensor, b: _Bin) -> Tensor:
    g = xi * (1.0 - xi)
    numerator = b.right * xi.square() + 2.0 * slope * g + b.left * (1.0 - xi).square()
    return torch.log(numerator) - 2.0 * torch.log(1.0 + excess / slope * g)


def rational_quadratic(x: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Map `x` in [0, 1] to [0, 1]; return the image and log dy/dx. Values outside are taken at the nearer end."""
    x = x.clamp(0.0, 1.0)
    b = _find(x, knots, 0)
    xi = ((x - b.x) / b.width).clamp(0.0, 1.0)
    slope = b.height / b.width
    excess = b.left + b.right - 2.0 * slope
    g = xi * (1.0 - xi)
    y = b.y + b.height * (slope * xi.square() + b.left * g) / (slope + excess * g)
    return y, _log_derivative(xi, slope, excess, b)


def rational_quadratic_inverse(y: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `rational_quadratic`; return x and log dx/dy."""
    y = y.clamp(0.0, 1.0)
    b = _find(y, knots, 1)
    slope = b.height / b.width
    excess = b.left + b.right - 2.0 * slope
    v = y - b.y
    quadratic = b.height * (slope - b.left) + v * excess
    linear = b.height * b.left - v * excess
    root = torch.sqrt((linear.square() + 4.0 * quadratic * slope * v).clamp_min(0.0))
    xi = (2.0 * slope * v / (linear + root)).clamp(0.0, 1.0)
    return b.x + xi * b.width, -_log_derivative(xi, slope, excess, b)
