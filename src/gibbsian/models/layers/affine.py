"""Affine maps of tokens whose shift and scale come from a network, with bounded coefficients."""

from typing import NamedTuple

import torch
from torch import Tensor


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


def _bounded(value: Tensor, bound: float) -> Tensor:
    return bound * torch.tanh(value / bound)
