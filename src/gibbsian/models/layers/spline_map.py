"""Maps of tokens whose numbers follow each other, within the token too, each by an affine map and a spline.

An affine map of a whole token leaves its numbers normal given the tokens before. Here the second number may depend on
the first in any way, as the depth of an arc does on the place along it, and each may have several peaks.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gibbsian.models.layers.splines import make_knots, rational_quadratic, rational_quadratic_inverse

REACH = 4.0
"""Splines act within (-REACH, REACH) and are the identity outside."""
SLOPE_MIN = 0.02


class SplineMap(nn.Module):
    """Map of tokens of `p` numbers, given features of the tokens before; new weights make it the identity.

    Parameters
    ----------
    width, p
        Features and numbers per token.
    hidden
        Width of the network that joins the features with the numbers before, for each number.
    bins
        Of each spline.
    bound
        Log-scales of the affine part stay within (-bound, bound).
    """

    def __init__(self, width: int, p: int, hidden: int, bins: int, bound: float) -> None:
        super().__init__()
        self.p, self.hidden, self.bins, self.bound = p, hidden, bins, bound
        earlier = torch.tril(torch.ones(p, p), -1)
        self.earlier: Tensor
        self.register_buffer("earlier", earlier, persistent=False)
        self.context = nn.Linear(width, p * hidden)
        self.own = nn.Parameter(torch.randn(p, p, hidden))
        self.inner = nn.Parameter(torch.randn(p, hidden, hidden) / math.sqrt(hidden))
        self.inner_bias = nn.Parameter(torch.zeros(p, hidden))
        n_out = 2 + 3 * bins - 1
        self.out = nn.Parameter(torch.zeros(p, hidden, n_out))
        self.out_bias = nn.Parameter(torch.zeros(p, n_out))

    def to_base(self, x: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return base numbers (..., p) of tokens and log |dz/dx| (..., p)."""
        raw = self._coefficients(x, self._context(features))
        log_scale = self._log_scale(raw) * mask
        z = (x - raw[..., 0] * mask) * torch.exp(-log_scale)
        bent, change = _bend(z, raw[..., 2:], inverse=False)
        return torch.where(mask > 0, bent, z), change * mask - log_scale

    def from_base(self, z: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (..., p), one number after the other, and log |dx/dz| (..., p)."""
        context = self._context(features)
        x, log_det = torch.zeros_like(z), torch.zeros_like(z)
        for k in range(self.p):
            raw = self._coefficients(x, context)
            log_scale = self._log_scale(raw) * mask
            bent, change = _bend(z, raw[..., 2:], inverse=True)
            value = torch.where(mask > 0, bent, z) * torch.exp(log_scale) + raw[..., 0] * mask
            x[..., k], log_det[..., k] = value[..., k], (change * mask + log_scale)[..., k]
        return x, log_det

    def _context(self, features: Tensor) -> Tensor:
        return self.context(features).unflatten(-1, (self.p, self.hidden))

    def _coefficients(self, x: Tensor, context: Tensor) -> Tensor:
        """Shift, log-scale and spline parameters (..., p, 3 bins + 1), number k from the context and x_<k."""
        earlier = torch.einsum("...j,kjh->...kh", x, self.earlier[..., None] * self.own)
        e = functional.gelu(context + earlier)
        e = e + functional.gelu(torch.einsum("...kh,khj->...kj", e, self.inner) + self.inner_bias)
        return torch.einsum("...kh,kho->...ko", e, self.out) + self.out_bias

    def _log_scale(self, raw: Tensor) -> Tensor:
        return self.bound * torch.tanh(raw[..., 1] / self.bound)


def _bend(x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Rational-quadratic splines of `x` (...) with parameters (..., 3 bins - 1), slopes one at the ends."""
    bins = (parameters.shape[-1] + 1) // 3
    sizes, slopes = parameters.split([2 * bins, bins - 1], -1)
    knots = make_knots(torch.cat([sizes, functional.pad(slopes, (1, 1))], -1), SLOPE_MIN)
    function = rational_quadratic_inverse if inverse else rational_quadratic
    y, log_slope = function((x + REACH) / (2.0 * REACH), knots)
    inside = x.abs() < REACH
    return torch.where(inside, 2.0 * REACH * y - REACH, x), torch.where(inside, log_slope, 0.0)
