"""One block of a transformer flow: every token is moved by a map that depends on the tokens before it."""

import torch
from torch import Tensor, nn

from gibbsian.models.layers.affine import AffineMap
from gibbsian.models.layers.causal import CausalTransformer
from gibbsian.models.layers.spline_map import SplineMap

POSITION_STD = 1e-2


class AutoregressiveBlock(nn.Module):
    """Bijection of tokens (B, T, p): ``x_j = f(z_j; c_j)`` with features c_j of ``x_0 ... x_{j-1}``.

    The last token conditions nothing, so the network never sees it. Zero output weights make a new block the identity.

    Parameters
    ----------
    mask
        (T, p) one where a token has the coordinate. Absent ones must be zero and stay zero.
    width, depth, head
        Of the transformer.
    map
        Maps of single tokens.
    start
        Whether a learnt token comes first, so that the first token is transformed too.
    reverse
        Whether the tokens are taken from last to first.
    """

    mask: Tensor

    def __init__(
        self,
        mask: Tensor,
        width: int,
        depth: int,
        head: int,
        *,
        map: AffineMap | SplineMap,
        start: bool,
        reverse: bool,
    ) -> None:
        super().__init__()
        length, p = mask.shape
        self.map, self.reverse = map, reverse
        self.register_buffer("mask", mask.float(), persistent=False)
        self.embed = nn.Linear(p, width)
        self.position = nn.Parameter(POSITION_STD * torch.randn(length, width))
        self.start = nn.Parameter(POSITION_STD * torch.randn(width)) if start else None
        self.transformer = CausalTransformer(width, depth, head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return base tokens (B, T, p) of tokens, and the log-determinant (B,), float64."""
        x, mask, position = self._order(x), self._order(self.mask), self._order(self.position)
        e = self.embed(x[:, :-1]) + position[:-1]
        if self.start is None:
            moved, log_det = self.map.to_base(x[:, 1:], self.transformer(e), mask[1:])
            z = torch.cat([x[:, :1], moved], 1)
        else:
            features = self.transformer(torch.cat([self.start.expand(len(x), 1, -1), e], 1))
            z, log_det = self.map.to_base(x, features, mask)
        return self._order(z), log_det.double().sum((1, 2))

    @torch.no_grad()
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, p) of base tokens, one after the other, and the log-determinant (B,), float64."""
        z, mask, position = self._order(z), self._order(self.mask), self._order(self.position)
        x, log_det = torch.empty_like(z), torch.zeros(len(z), dtype=torch.float64, device=z.device)
        first = 1 if self.start is None else 0
        x[:, :first] = z[:, :first]
        cache = self.transformer.new_cache(len(z), z.shape[1] - first)
        for j in range(first, z.shape[1]):
            if j == 0:
                assert self.start is not None
                e = self.start.expand(len(z), -1)
            else:
                e = self.embed(x[:, j - 1]) + position[j - 1]
            features = self.transformer.step(e, cache, j - first)
            x[:, j], change = self.map.from_base(z[:, j], features, mask[j])
            log_det = log_det + change.double().sum(1)
        return self._order(x), log_det

    def _order(self, tokens: Tensor) -> Tensor:
        """Tokens (..., T, p) in the order of this block, or back."""
        return tokens.flip(-2) if self.reverse else tokens
