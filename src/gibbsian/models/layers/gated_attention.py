"""The gated attention unit (arXiv 2202.10447) with the Laplace function (2209.10655) and ScaleNorm (1910.05895)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gibbsian.models.layers.positions import RelativeBias, rotary_waves, rotate, t5_buckets
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
    """Tokens at some places read the tokens of groups of places.

    ``out = X + (U * (A V)) W_o + b`` with ``A = f((Q K^T + B_rel) / n_keys)``. Reading and read tokens may be the same
    ones. Softmax, whose rows sum to one, divides by the root of the key width instead of the number of keys.

    Parameters
    ----------
    config
        Sizes and switches.
    readers
        (t,) places, in the order of all tokens, of the tokens that come out.
    groups
        Places (n_g,) of the tokens of each group that they read.
    """

    def __init__(self, config: SplitConfig, readers: Tensor, *groups: Tensor) -> None:
        super().__init__()
        self.function, self.dropout = config.attention, config.dropout
        self._key, self._value = config.key, config.value
        n_keys = sum(len(places) for places in groups)
        self._scale = 1.0 / math.sqrt(config.key) if self.function == "softmax" else 1.0 / n_keys
        self.norm = ScaleNorm(config.width) if config.norm == "scale" else nn.LayerNorm(config.width)
        # Gates, then what queries and keys are made of, then values: readers need the first two, others the last two.
        self.inner = nn.Linear(config.width, 2 * config.value + config.key)
        self.outer = nn.Linear(config.value, config.width)
        self.gain = nn.Parameter(_NARROW * torch.randn(2, config.key))
        self.offset = nn.Parameter(torch.zeros(2, config.key))
        self.bias = RelativeBias(config.width) if "t5" in config.positions else None
        self._rotary = "rotary" in config.positions
        for k, places in enumerate((readers, *groups)):
            self.register_buffer(f"_waves{k}", rotary_waves(places, config.key), persistent=False)
            self.register_buffer(f"_buckets{k}", t5_buckets(places - readers[:, None]), persistent=False)

    def forward(self, readers: Tensor, *groups: Tensor, drop: bool = False) -> Tensor:
        """Return tokens (B, t, D) of tokens (B, t, D) that read groups of tokens (B, n_g, D).

        A batch of 1 stands for a token that is the same in all; what it needs is computed once. `drop` switches
        dropout on, with torch's global generator.
        """
        weight, bias, cut = self.inner.weight, self.inner.bias, self._value + self._key
        inner = functional.silu(functional.linear(self.norm(readers), weight[:cut], bias[:cut]))
        gates, base = inner.split([self._value, self._key], -1)
        queries = self._place(base, 0, 0) * self._scale
        scores, values = [], []
        for k, tokens in enumerate(groups, 1):
            inner = functional.silu(functional.linear(self.norm(tokens), weight[self._value :], bias[self._value :]))
            base, value = inner.split([self._key, self._value], -1)
            scores.append(self._scores(queries, self._place(base, 1, k), k))
            values.append(value)
        out = self.outer(gates * self._mix(scores, values))
        return readers + functional.dropout(out, self.dropout, training=drop)

    def _place(self, base: Tensor, row: int, k: int) -> Tensor:
        """Return queries (row 0) or keys (row 1) of tokens at the places of entry `k`."""
        scaled = torch.addcmul(self.offset[row], base, self.gain[row])
        return rotate(scaled, self.get_buffer(f"_waves{k}")) if self._rotary else scaled

    def _scores(self, queries: Tensor, keys: Tensor, k: int) -> Tensor:
        """Return the arguments of the attention function (B, t, n); for the Laplace function those of its erf."""
        n_batch, start = max(len(queries), len(keys)), queries.new_zeros(())
        if self.bias is not None:
            start = self.bias(self.get_buffer(f"_buckets{k}")) * self._scale
        stretch = 1.0
        if self.function == "laplace":
            start, stretch = (start - MEAN) * _STRETCH, _STRETCH
        queries, keys = queries.expand(n_batch, -1, -1), keys.expand(n_batch, -1, -1)
        return torch.baddbmm(start, queries, keys.mT, alpha=stretch)

    def _mix(self, scores: list[Tensor], values: list[Tensor]) -> Tensor:
        """Return the sums (B, t, e) of the values of all groups, weighted by attention."""
        if self.function == "laplace":
            # (1 + erf) / 2 acts on the values, so that no further pass over all pairs is needed.
            parts = [_bmm(torch.erf(s), v) + v.sum(-2, keepdim=True) for s, v in zip(scores, values, strict=True)]
            return 0.5 * sum(parts[1:], start=parts[0])
        if self.function == "softmax":
            n_batch = max(len(s) for s in scores)
            joined = torch.softmax(torch.cat([s.expand(n_batch, -1, -1) for s in scores], -1), -1)
            weights = list(joined.split([s.shape[-1] for s in scores], -1))
        else:
            weights = [functional.relu(s).square() for s in scores]
        parts = [_bmm(a, v) for a, v in zip(weights, values, strict=True)]
        return sum(parts[1:], start=parts[0])


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    n_batch = max(len(a), len(b))
    return torch.bmm(a.expand(n_batch, -1, -1), b.expand(n_batch, -1, -1))
