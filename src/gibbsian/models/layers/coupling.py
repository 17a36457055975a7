"""Coupling layers over a mix of angles on the circle and real variables."""

import itertools
import math

import torch
from torch import Tensor, nn

from gibbsian.models.layers.fast_splines import Couple, can_couple
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
        return self.last(residual(self.hidden, h))


def residual(layers: nn.ModuleList, h: Tensor) -> Tensor:
    """Send `h` (B, n_in) through hidden layers with SiLU, each but the first on top of the one before."""
    for k, layer in enumerate(layers):
        new = nn.functional.silu(layer(h))
        h = new if k == 0 else h + new
    return h


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
        return self._transform(v, context, inverse=False)

    def inverse(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variables one step closer to the data, and the log-determinant, (B,)."""
        return self._transform(v, context, inverse=True)

    def _transform(self, v: Tensor, context: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        changed, p = v[:, self._changed], self._parameters_of(v, context)
        image, log_det = transform(changed, p, self._circular, self.bound, inverse=inverse)
        return v.index_copy(1, self._changed, image), log_det

    def _parameters_of(self, v: Tensor, context: Tensor) -> Tensor:
        """Raw parameters (B, changed, 3 K + 1) of the splines."""
        inputs = torch.cat([features(v, self._kept_periodic, self._kept_real), context], -1)
        if self._alone:
            inputs = v.new_ones(len(v), 1)
        return self.conditioner(inputs).unflatten(-1, (len(self._changed), 3 * self.bins + 1))


def transform(v: Tensor, p: Tensor, circular: Tensor, bound: float, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Return what `couple` returns, by the compiled kernels where they are there."""
    if can_couple(v):
        return Couple.apply(v, p, circular.to(v.dtype), bound, inverse)  # pyright: ignore
    return couple(v, p, circular, bound, inverse)


def couple(v: Tensor, p: Tensor, circular: Tensor, bound: float, inverse: bool) -> tuple[Tensor, Tensor]:
    """Images (B, n) of variables `v` (B, n) with raw parameters `p` (B, n, 3 K + 1), and the log-determinant, (B,).

    Variables on the circle (n,) have one learned slope shared by both ends, and a shift; those on the line end slopes
    1, a scale and a shift.
    """
    bins = (p.shape[-1] - 1) // 3
    sizes, inner, first, last = p.split([2 * bins, bins - 1, 1, 1], -1)
    end = torch.where(circular[:, None], first, 0.0)
    log_scale = torch.where(circular, 0.0, torch.tanh(first.squeeze(-1)))
    shift, knots = last.squeeze(-1), make_knots(torch.cat([sizes, end, inner, end], -1))
    scaled = v if inverse else v * torch.exp(log_scale) + shift
    turns = scaled if inverse else torch.remainder(scaled, 1.0)
    unit = torch.where(circular, turns, (scaled + bound) / (2.0 * bound))
    inside = (unit >= 0.0) & (unit <= 1.0)
    image, log_slope = (rational_quadratic_inverse if inverse else rational_quadratic)(unit, knots)
    image = torch.where(circular, image, torch.where(inside, image * (2.0 * bound) - bound, scaled))
    log_slope = torch.where(inside, log_slope, 0.0)
    if not inverse:
        return image, (log_slope + log_scale).sum(-1)
    moved = (image - shift) * torch.exp(-log_scale)
    return torch.where(circular, torch.remainder(moved, 1.0), moved), (log_slope - log_scale).sum(-1)
