"""The gated attention unit (arXiv 2202.10447) with the Laplace function (2209.10655) and ScaleNorm (1910.05895)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gibbsian.models.layers.positions import is_near, rotary_waves, rotate, t5_buckets
from gibbsian.models.split_config import SplitConfig

MEAN = math.sqrt(0.5)
SPREAD = math.sqrt(1.0 / (4.0 * math.pi))
_STRETCH = 1.0 / (SPREAD * math.sqrt(2.0))
_SHORTEST = 1e-5
_NARROW = 0.02


def laplace(z: Tensor) -> Tensor:
    """Return the Laplace attention function of scores, a normal distribution: 0.0061 at 0, one half at MEAN."""
    return 0.5 * (1.0 + torch.erf((z - MEAN) * _STRETCH))


class ScaleNorm(nn.Module):
    """Tokens (..., D) scaled to the length ``g sqrt(D)``, with one learned `g` that starts as 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.g = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled tokens, (..., D)."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.width**-0.5
        return x * (self.g / size.clamp_min(_SHORTEST))


class GatedAttention(nn.Module):
    """Tokens at some places read each other and the tokens at other places.

    ``out = X + (U * (A V)) W_o + b`` with ``A = f((Q K^T + B_rel) / n_keys)``. Softmax, whose rows sum to one, divides
    by the root of the key width instead of the number of keys.

    Parameters
    ----------
    config
        Sizes and switches.
    places
        (t,) in the order of all tokens, of those that come out.
    others
        (o,) places of the tokens that are only read.
    """

    def __init__(self, config: SplitConfig, places: Tensor, others: Tensor) -> None:
        super().__init__()
        self.function, self.dropout = config.attention, config.dropout
        self._sizes = (config.value, config.key, config.value)
        self._scale = config.key**-0.5 if self.function == "softmax" else 1.0 / (len(places) + len(others))
        self.norm = ScaleNorm(config.width) if config.norm == "scale" else nn.LayerNorm(config.width)
        # Gates, then what queries and keys are made of, then values; tokens that are only read need no gates.
        self.inner = nn.Linear(config.width, sum(self._sizes))
        self.outer = nn.Linear(config.value, config.width)
        self.gain = nn.Parameter(_NARROW * torch.randn(2, 1, config.key))
        self.offset = nn.Parameter(torch.zeros(2, 1, config.key))
        self._bias_scale = math.sqrt(config.width) * self._scale
        # Closed to all tokens, attention learns slowly; neighbours along the chain are read from the start.
        bias = is_near() * (MEAN / self._bias_scale)
        self.bias = nn.Parameter(bias) if "t5" in config.positions else None
        self._rotary = "rotary" in config.positions
        self.waves: Tensor
        self.other_waves: Tensor
        self.buckets: Tensor
        self.register_buffer("waves", rotary_waves(places, config.key), persistent=False)
        self.register_buffer("other_waves", rotary_waves(others, config.key), persistent=False)
        buckets = t5_buckets(torch.cat([places, others]) - places[:, None])
        self.register_buffer("buckets", buckets, persistent=False)

    def forward(self, tokens: Tensor, others: Tensor, *, drop: bool = False) -> Tensor:
        """Return tokens (B, t, D) of `tokens` (B, t, D) that read themselves and `others` (B, o, D).

        A batch of 1 stands for tokens that are the same in all; what they need is computed once. `drop` switches
        dropout on, with torch's global generator.
        """
        inner = functional.silu(self.inner(self.norm(tokens)))
        gates, base, value = inner.split(self._sizes, -1)
        both = torch.addcmul(self.offset, base[:, None], self.gain)
        query, key = (rotate(both, self.waves) if self._rotary else both).unbind(1)
        n_gates = self._sizes[0]
        weight, bias = self.inner.weight[n_gates:], self.inner.bias[n_gates:]
        inner = functional.silu(functional.linear(self.norm(others), weight, bias))
        base, other_value = inner.split(self._sizes[1:], -1)
        other_key = torch.addcmul(self.offset[1], base, self.gain[1])
        if self._rotary:
            other_key = rotate(other_key, self.other_waves)
        mixed = self._mix(self._scores(query, (key, other_key)), (value, other_value))
        return tokens + functional.dropout(self.outer(gates * mixed), self.dropout, training=drop)

    def _scores(self, query: Tensor, keys: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the arguments of the attention function (B, t, n); for the Laplace function those of its erf."""
        stretch, shift = (_STRETCH, -MEAN * _STRETCH) if self.function == "laplace" else (1.0, 0.0)
        sizes = [key.shape[1] for key in keys]
        if self.bias is None:
            starts = [query.new_full((), shift)] * 2
        else:
            table = self.bias * (self._bias_scale * stretch) + shift
            # The gradient of index_select is twenty times as fast as that of an embedding of width one.
            starts = table.index_select(0, self.buckets.flatten()).view(self.buckets.shape).split(sizes, -1)
        alpha = self._scale * stretch
        own, other = (_baddbmm(s, query, key.mT, 1.0, alpha) for s, key in zip(starts, keys, strict=True))
        return own, other

    def _mix(self, scores: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor]) -> Tensor:
        """Return the sums (B, t, e) of all values, weighted by attention."""
        (own, other), (value, other_value) = scores, values
        if self.function == "laplace":
            # (1 + erf) / 2 acts on the values, so that no further pass over all pairs is needed.
            mixed = _baddbmm(value.sum(-2, keepdim=True), torch.erf(own), value, 0.5, 0.5)
            start = torch.add(mixed, other_value.sum(-2, keepdim=True), alpha=0.5)
            return _baddbmm(start, torch.erf(other), other_value, 1.0, 0.5)
        if self.function == "softmax":
            n_batch, sizes = max(len(own), len(other)), [own.shape[-1], other.shape[-1]]
            joined = torch.cat([own.expand(n_batch, -1, -1), other.expand(n_batch, -1, -1)], -1)
            own, other = torch.softmax(joined, -1).split(sizes, -1)
        else:
            own, other = functional.relu(own).square(), functional.relu(other).square()
        mixed = _baddbmm(value.new_zeros(()), own, value, 0.0, 1.0)
        return _baddbmm(mixed, other, other_value, 1.0, 1.0)


def _baddbmm(start: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> Tensor:
    """Return ``beta start + alpha a b``, where any batch may be of size 1."""
    n_batch = max(len(a), len(b))
    a, b = a.expand(n_batch, -1, -1), b.expand(n_batch, -1, -1)
    return torch.baddbmm(start, a, b, beta=beta, alpha=alpha)
