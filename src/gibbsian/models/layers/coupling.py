"""Coupling layers over a mix of angles on the circle and real variables."""

import itertools
import math

import torch
from torch import Tensor, nn

from gibbsian.models.layers.splines import make_knots, rational_quadratic, rational_quadratic_inverse

HARMONICS = 2


def features(v: Tensor, periodic: Tensor, real: Tensor) -> Tensor:
    """Network inputs of variables `v` (B, n): cos and sin of two harmonics for the circle, the value itself else.

    `periodic` and `real` hold the column indices of the two kinds; a periodic variable lives on [0, 1).
    """
    turns = 2.0 * math.pi * v[:, periodic]
    waves = [f(k * turns) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
    return torch.cat([*waves, v[:, real]], -1)


def count_features(n_periodic: int, n_real: int) -> int:
    """Width of `features`."""
    return 2 * HARMONICS * n_periodic + n_real


class Conditioner(nn.Module):
    """MLP with SiLU and a zero last layer, so that the flow starts as the identity."""

    def __init__(self, n_in: int, n_out: int, hidden: int, depth: int) -> None:
        super().__init__()
        sizes = [n_in, *[hidden] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.last = nn.Linear(sizes[-1], n_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Map inputs (B, n_in) to outputs (B, n_out)."""
        for k, layer in enumerate(self.hidden):
            new = nn.functional.silu(layer(h))
            h = new if k == 0 else h + new
        return self.last(h)


class SplineCoupling(nn.Module):
    """Transform some variables by splines whose parameters depend on the others and on a context.

    A variable on the circle, in [0, 1), is shifted and then sent through a circular spline whose slopes agree at the
    seam. A real variable is sent through an affine map and a spline on [-bound, bound] with identity tails. Both take
    ``3 K + 1`` parameters.

    Parameters
    ----------
    periodic
        (n,) True for variables on the circle.
    transformed
        (n,) True for variables that this layer changes.
    n_context
        Width of the context.
    """

    def __init__(
        self,
        periodic: Tensor,
        transformed: Tensor,
        n_context: int,
        bins: int,
        hidden: int,
        depth: int,
        bound: float,
    ) -> None:
        super().__init__()
        self.bins, self.bound = bins, bound
        columns = torch.arange(len(periodic))
        self._changed: Tensor
        self._circular: Tensor
        self._kept_periodic: Tensor
        self._kept_real: Tensor
        for name, value in (
            ("_changed", columns[transformed]),
            ("_circular", periodic[transformed]),
            ("_kept_periodic", columns[~transformed & periodic]),
            ("_kept_real", columns[~transformed & ~periodic]),
        ):
            self.register_buffer(name, value, persistent=False)
        n_in = count_features(len(self._kept_periodic), len(self._kept_real)) + n_context
        self._alone = n_in == 0
        self.conditioner = Conditioner(max(n_in, 1), len(self._changed) * (3 * bins + 1), hidden, depth)

    def forward(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variables one step closer to the base, and the log-determinant, (B,)."""
        knots, shift, log_scale = self._splines(v, context)
        x = v[:, self._changed]
        scaled = x * torch.exp(log_scale) + shift
        unit = torch.where(self._circular, torch.remainder(scaled, 1.0), self._to_unit(scaled))
        inside = (unit >= 0.0) & (unit <= 1.0)
        image, log_derivative = rational_quadratic(unit, knots)
        y = torch.where(self._circular, image, torch.where(inside, self._from_unit(image), scaled))
        log_det = torch.where(inside, log_derivative, 0.0) + log_scale
        return v.index_copy(1, self._changed, y), log_det.sum(-1)

    def inverse(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variables one step closer to the data, and the log-determinant, (B,)."""
        knots, shift, log_scale = self._splines(v, context)
        y = v[:, self._changed]
        unit = torch.where(self._circular, y, self._to_unit(y))
        inside = (unit >= 0.0) & (unit <= 1.0)
        image, log_derivative = rational_quadratic_inverse(unit, knots)
        scaled = torch.where(self._circular, image, torch.where(inside, self._from_unit(image), y))
        moved = (scaled - shift) * torch.exp(-log_scale)
        x = torch.where(self._circular, torch.remainder(moved, 1.0), moved)
        log_det = torch.where(inside, log_derivative, 0.0) - log_scale
        return v.index_copy(1, self._changed, x), log_det.sum(-1)

    def _to_unit(self, z: Tensor) -> Tensor:
        return (z + self.bound) / (2.0 * self.bound)

    def _from_unit(self, u: Tensor) -> Tensor:
        return u * (2.0 * self.bound) - self.bound

    def _splines(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Knots (B, changed, 3, K+1), shift and log scale (B, changed)."""
        inputs = torch.cat([features(v, self._kept_periodic, self._kept_real), context], -1)
        if self._alone:
            inputs = v.new_ones(len(v), 1)
        p = self.conditioner(inputs).unflatten(-1, (len(self._changed), 3 * self.bins + 1))
        sizes, inner, first, shift = p.split([2 * self.bins, self.bins - 1, 1, 1], -1)
        # Circle: one learned slope shared by both ends, and a shift. Line: end slopes 1, a scale and a shift.
        circular = self._circular[:, None]
        end = torch.where(circular, first, 0.0)
        log_scale = torch.where(circular, 0.0, torch.tanh(first))
        return make_knots(torch.cat([sizes, end, inner, end], -1)), shift.squeeze(-1), log_scale.squeeze(-1)
