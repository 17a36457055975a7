"""What attention is told about the places of tokens: rotary phases and learned biases by distance."""

import math

import torch
from torch import Tensor, nn

BUCKETS = 32
"""Half of them for tokens before the reader, half for those after."""
MAX_DISTANCE = 128
ROTARY_CHANNELS = 32
_LONGEST_WAVE = 10_000.0


def t5_buckets(distance: Tensor) -> Tensor:
    """Return buckets, 0 to 31, of signed distances, the place of a key minus that of its reader (arXiv 1910.10683).

    Distances below 8 have a bucket each, larger ones share eight that widen with the logarithm up to 128. Positive
    distances take the upper half.
    """
    half = BUCKETS // 2
    exact = half // 2
    size = distance.abs()
    # Base two, so that the edges at powers of two are exact.
    octaves = torch.log2(size.clamp_min(1).double() / exact) / math.log2(MAX_DISTANCE / exact)
    wide = (exact + torch.floor(octaves * (half - exact)).long()).clamp_max(half - 1)
    return torch.where(size < exact, size, wide) + half * (distance > 0)


class RelativeBias(nn.Module):
    """One learned number per bucket, times the root of the width of a token.

    Parameters
    ----------
    width
        Numbers per token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.weight = nn.Parameter(torch.zeros(BUCKETS))

    def forward(self, buckets: Tensor) -> Tensor:
        """Return biases, as many as `buckets`."""
        # The gradient of index_select is twenty times as fast as that of an embedding of width one.
        return self.weight.index_select(0, buckets.flatten()).view(buckets.shape) * self.scale


def rotary_waves(places: Tensor, channels: int) -> Tensor:
    """Return cosines and sines (2, n, c) of the phases of tokens at `places` (n,) for 2 c channels, at most 32."""
    half = min(ROTARY_CHANNELS, channels) // 2
    frequencies = _LONGEST_WAVE ** (-torch.arange(half, dtype=torch.float64, device=places.device) / half)
    phases = places.double()[:, None] * frequencies
    return torch.stack([phases.cos(), phases.sin()]).to(torch.get_default_dtype())


def rotate(x: Tensor, waves: Tensor) -> Tensor:
    """Turn the first 2 c channels of tokens `x` (..., n, k), channel j with channel c + j, by `waves` (2, n, c)."""
    half = waves.shape[-1]
    cos, sin = waves
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)
