"""What attention is told about the places of tokens: rotary phases and learned biases by distance."""

import math

import torch
from torch import Tensor

BUCKETS = 32
"""Half of them for tokens before the reader, half for those after."""
NEAR, MAX_DISTANCE = BUCKETS // 4, 128
ROTARY_CHANNELS = 32
_LONGEST_WAVE = 10_000.0


def t5_buckets(distance: Tensor) -> Tensor:
    """Return buckets, 0 to 31, of signed distances, the place of a key minus that of its reader (arXiv 1910.10683).

    Distances below 8 have a bucket each, larger ones share eight that widen with the logarithm up to 128. Positive
    distances take the upper half.
    """
    half, exact = BUCKETS // 2, NEAR
    size = distance.abs()
    # Base two, so that the edges at powers of two are exact.
    octaves = torch.log2(size.clamp_min(1).double() / exact) / math.log2(MAX_DISTANCE / exact)
    wide = (exact + torch.floor(octaves * (half - exact)).long()).clamp_max(half - 1)
    return torch.where(size < exact, size, wide) + half * (distance > 0)


def is_near() -> Tensor:
    """Return 1 for buckets of a single distance, those of near tokens, and 0 for the others (32,)."""
    near = (torch.arange(BUCKETS) % (BUCKETS // 2)) < NEAR
    return near.to(torch.get_default_dtype())


def rotary_waves(places: Tensor, channels: int) -> Tensor:
    """Return cosines and sines (n, c, 2) of the phases of tokens at `places` (n,) for 2 c channels, at most 32."""
    half = min(ROTARY_CHANNELS, channels) // 2
    phases = places.double()[:, None] * _LONGEST_WAVE ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.stack([phases.cos(), phases.sin()], -1).to(torch.get_default_dtype())


def rotate(x: Tensor, waves: Tensor) -> Tensor:
    """Turn the first 2 c channels of tokens `x` (..., n, k), in pairs of neighbours, by `waves` (n, c, 2)."""
    turned = 2 * waves.shape[-2]
    pairs = torch.view_as_complex(x[..., :turned].unflatten(-1, (-1, 2)))
    rotated = torch.view_as_real(pairs * torch.view_as_complex(waves)).flatten(-2)
    return rotated if turned == x.shape[-1] else torch.cat([rotated, x[..., turned:]], -1)
