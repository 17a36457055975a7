"""A causal transformer: all tokens at once for densities, one token at a time with a cache for sampling.

Pre-norm layers ``e += attention(norm(e)); e += mlp(norm(e))`` (arXiv 2412.06329, without conditioning and dropout).
The cache of keys and values is a tensor that the caller makes and passes in; the modules keep no state.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
LONGEST_PLAIN = 256


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of each token to itself and those before it, all (B, heads, T, head).

    On a CPU plain products are twice as fast as the fused kernel for the short sequences of small molecules.
    """
    if q.device.type != "cpu" or q.shape[2] > LONGEST_PLAIN:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    later = torch.full((q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype).triu(1)
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[3]) + later, -1) @ v


class CausalLayer(nn.Module):
    """One layer of attention over the tokens so far, and a two-layer network on each token.

    Parameters
    ----------
    width, head
        Numbers per token, and per attention head; `head` divides `width`.
    """

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.norm_attention = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))

    def forward(self, e: Tensor) -> Tensor:
        """All tokens (B, T, width), each seeing itself and those before it."""
        q, k, v = self._heads(e)
        return self._finish(e, causal_attention(q, k, v))

    def step(self, e: Tensor, cache: Tensor, position: int) -> Tensor:
        """One token (B, 1, width); its key and value are written to `cache` (2, B, heads, T, head) at `position`."""
        q, k, v = self._heads(e)
        cache[0, :, :, position], cache[1, :, :, position] = k[:, :, 0], v[:, :, 0]
        keys, values = cache[:, :, :, : position + 1]
        return self._finish(e, functional.scaled_dot_product_attention(q, keys, values))

    def _heads(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, width = e.shape
        qkv = self.qkv(self.norm_attention(e)).view(batch, length, 3, width // self.head, self.head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _finish(self, e: Tensor, attended: Tensor) -> Tensor:
        e = e + self.project(attended.transpose(1, 2).reshape(e.shape))
        return e + self.mlp(self.norm_mlp(e))


class CausalTransformer(nn.Module):
    """Layers and a final norm.

    Parameters
    ----------
    width, depth, head
        Numbers per token, layers, numbers per attention head.
    """

    def __init__(self, width: int, depth: int, head: int) -> None:
        super().__init__()
        self.width, self.head = width, head
        self.layers = nn.ModuleList([CausalLayer(width, head) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, e: Tensor) -> Tensor:
        """Return features (B, T, width) of embedded tokens (B, T, width), each of the tokens up to it."""
        for layer in self.layers:
            e = layer(e)
        return self.norm(e)

    def new_cache(self, batch: int, length: int) -> Tensor:
        """Make room for the keys and values of `length` tokens: (depth, 2, batch, heads, length, head)."""
        parameter = self.norm.weight
        shape = (len(self.layers), 2, batch, self.width // self.head, length, self.head)
        return torch.empty(shape, dtype=parameter.dtype, device=parameter.device)

    def step(self, e: Tensor, cache: Tensor, position: int) -> Tensor:
        """Return features (B, width) of one more token (B, width) behind the `position` tokens in the cache."""
        e = e[:, None]
        for layer, part in zip(self.layers, cache, strict=True):
            assert isinstance(layer, CausalLayer)
            e = layer.step(e, part, position)
        return self.norm(e)[:, 0]
