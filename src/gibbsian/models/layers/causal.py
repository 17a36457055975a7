"""A causal transformer: all tokens at once for densities, one token at a time with a cache for sampling.

Pre-norm layers ``e += attention(norm(e)); e += mlp(norm(e))`` (arXiv 2412.06329, without conditioning and dropout).
The cache of keys and values is a tensor that the caller makes and passes in; the modules keep no state.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4


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
        return self._finish(e, functional.scaled_dot_product_attention(q, k, v, is_causal=True))

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
    """Layers, a final norm, and an output layer that starts at zero.

    Parameters
    ----------
    width, depth, head
        Numbers per token, layers, numbers per attention head.
    n_out
        Outputs per token.
    """

    def __init__(self, width: int, depth: int, head: int, n_out: int) -> None:
        super().__init__()
        self.width, self.head = width, head
        self.layers = nn.ModuleList([CausalLayer(width, head) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, n_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, e: Tensor) -> Tensor:
        """Return outputs (B, T, n_out) of embedded tokens (B, T, width), each of the tokens up to it."""
        for layer in self.layers:
            e = layer(e)
        return self.out(self.norm(e))

    def new_cache(self, batch: int, length: int) -> Tensor:
        """Make room for the keys and values of `length` tokens: (depth, 2, batch, heads, length, head)."""
        parameter = self.out.weight
        shape = (len(self.layers), 2, batch, self.width // self.head, length, self.head)
        return torch.empty(shape, dtype=parameter.dtype, device=parameter.device)

    def step(self, e: Tensor, cache: Tensor, position: int) -> Tensor:
        """Return outputs (B, n_out) of one more embedded token (B, width) behind the `position` tokens in the cache."""
        e = e[:, None]
        for layer, part in zip(self.layers, cache, strict=True):
            assert isinstance(layer, CausalLayer)
            e = layer.step(e, part, position)
        return self.out(self.norm(e))[:, 0]
