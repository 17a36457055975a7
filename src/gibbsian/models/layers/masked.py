"""Autoregressive spline layers: every variable is bent by a spline that depends on all variables before it."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from gibbsian.models.layers.coupling import HARMONICS, features, residual, transform


class MaskedLinear(nn.Linear):
    """Linear map whose outputs see only inputs of their own or a lower degree.

    Parameters
    ----------
    seen, degree
        Degrees of inputs and outputs, integers.
    """

    def __init__(self, seen: Tensor, degree: Tensor) -> None:
        super().__init__(len(seen), len(degree))
        self.mask: Tensor
        self.register_buffer("mask", (seen <= degree[:, None]).float(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, n_in) to (B, n_out)."""
        return functional.linear(input, self.weight * self.mask, self.bias)


class SplineAutoregression(nn.Module):
    """Transform all variables by splines, each with parameters that depend on those before it and on a context.

    The splines are those of `SplineCoupling`. Density takes one pass of the network, draws one for each variable.
    (Masked networks: arXiv 1502.03509.)

    Parameters
    ----------
    periodic
        (n,) True for variables on the circle.
    order
        (n,) variables, the first to be drawn first.
    n_context
        Width of the context.
    """

    def __init__(
        self, periodic: Tensor, order: Tensor, n_context: int, bins: int, hidden: int, depth: int, bound: float
    ) -> None:
        super().__init__()
        self.bins, self.bound, n = bins, bound, len(periodic)
        columns = torch.arange(n)
        rank = torch.empty_like(order).index_copy(0, order, columns)
        self._order: Tensor
        self._circular: Tensor
        self._periodic: Tensor
        self._real: Tensor
        for name, value in (
            ("_order", order),
            ("_circular", periodic),
            ("_periodic", columns[periodic]),
            ("_real", columns[~periodic]),
        ):
            self.register_buffer(name, value, persistent=False)
        waves = (rank[periodic] + 1).repeat(2 * HARMONICS)
        seen = torch.cat([waves, rank[~periodic] + 1, rank.new_zeros(n_context)])
        inner = torch.arange(hidden) * n // hidden
        sizes = [seen, *[inner] * depth]
        self.hidden = nn.ModuleList(MaskedLinear(a, b) for a, b in itertools.pairwise(sizes))
        self.last = MaskedLinear(inner, rank.repeat_interleave(3 * bins + 1))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variables one step closer to the base, and the log-determinant, (B,)."""
        p = self.last(self._hidden(v, context)).unflatten(-1, (-1, 3 * self.bins + 1))
        return transform(v, p, self._circular, self.bound, inverse=False)

    def inverse(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variables one step closer to the data, one after the other, and the log-determinant, (B,)."""
        x, log_det = torch.zeros_like(v), v.new_zeros(len(v))
        weight, bias = self.last.weight * self.last.mask, self.last.bias
        for k in self._order.tolist():
            rows = slice(k * (3 * self.bins + 1), (k + 1) * (3 * self.bins + 1))
            p = functional.linear(self._hidden(x, context), weight[rows], bias[rows])[:, None]
            new, change = transform(v[:, k : k + 1], p, self._circular[k : k + 1], self.bound, inverse=True)
            x = x.index_copy(1, self._order.new_tensor([k]), new)
            log_det = log_det + change
        return x, log_det

    def _hidden(self, v: Tensor, context: Tensor) -> Tensor:
        return residual(self.hidden, torch.cat([features(v, self._periodic, self._real), context], -1))
