"""Affine maps of tokens whose shift and scale come from a network, with bounded coefficients."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """Coefficients of ``x = shift + T z`` with T lower triangular, for tokens of `p` numbers.

    Attributes
    ----------
    shift
        (..., p).
    log_scale
        (..., p) logarithms of the diagonal of T.
    lower
        (..., p (p - 1) / 2) entries below the diagonal, row by row; without entries T is diagonal.
    """

    shift: Tensor
    log_scale: Tensor
    lower: Tensor


def count_coefficients(p: int, triangular: bool) -> int:
    """Numbers that a network must give per token of `p` numbers."""
    return 2 * p + (p * (p - 1) // 2 if triangular else 0)


def bounded_affine(raw: Tensor, mask: Tensor, bound: float) -> Affine:
    """Coefficients from unconstrained numbers; zero is the identity.

    Parameters
    ----------
    raw
        (..., c) output of a network, `count_coefficients` numbers per token.
    mask
        (..., p) one where a token has the coordinate, zero where it is absent; absent ones pass unchanged.
    bound
        Log-scales and entries of T stay within (-bound, bound), which keeps a stack invertible in single precision.
    """
    p = mask.shape[-1]
    shift, log_scale, lower = raw.split([p, p, raw.shape[-1] - 2 * p], -1)
    present = torch.stack([mask[..., i] * mask[..., j] for i in range(p) for j in range(i)], -1) if p > 1 else None
    if lower.shape[-1] and present is not None:
        lower = _bounded(lower, bound) * present
    return Affine(shift * mask, _bounded(log_scale, bound) * mask, lower)


def to_base(x: Tensor, affine: Affine) -> Tensor:
    """Solve ``x = shift + T z`` for z (..., p); its log-determinant is minus the sum of the log-scales."""
    centred = x - affine.shift
    inverse_scale = torch.exp(-affine.log_scale)
    if not affine.lower.shape[-1]:
        return centred * inverse_scale
    z: list[Tensor] = []
    for i in range(x.shape[-1]):
        mixed = sum((affine.lower[..., i * (i - 1) // 2 + j] * z[j] for j in range(i)), torch.zeros_like(x[..., 0]))
        z.append((centred[..., i] - mixed) * inverse_scale[..., i])
    return torch.stack(z, -1)


def from_base(z: Tensor, affine: Affine) -> Tensor:
    """Return ``shift + T z``, (..., p)."""
    x = affine.shift + z * torch.exp(affine.log_scale)
    if not affine.lower.shape[-1]:
        return x
    columns = list(x.unbind(-1))
    for i in range(z.shape[-1]):
        for j in range(i):
            columns[i] = columns[i] + affine.lower[..., i * (i - 1) // 2 + j] * z[..., j]
    return torch.stack(columns, -1)


class AffineMap(nn.Module):
    """Affine map of tokens of `p` numbers, given features of the tokens before; new weights make it the identity.

    Parameters
    ----------
    width, p
        Features and numbers per token.
    bound, triangular
        See `bounded_affine`; without `triangular`, numbers are only scaled and shifted.
    """

    def __init__(self, width: int, p: int, bound: float, triangular: bool) -> None:
        super().__init__()
        self.bound = bound
        self.out = nn.Linear(width, count_coefficients(p, triangular))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def to_base(self, x: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return base numbers (..., p) of tokens and log |dz/dx| (..., p)."""
        affine = bounded_affine(self.out(features), mask, self.bound)
        return to_base(x, affine), -affine.log_scale

    def from_base(self, z: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (..., p) and log |dx/dz| (..., p)."""
        affine = bounded_affine(self.out(features), mask, self.bound)
        return from_base(z, affine), affine.log_scale


def _bounded(value: Tensor, bound: float) -> Tensor:
    return bound * torch.tanh(value / bound)
