"""One block of a transformer flow: every token is moved by an affine map that depends on the tokens before it."""

import torch
from torch import Tensor, nn

from gibbsian.models.layers.affine import bounded_affine, count_coefficients, from_base, to_base
from gibbsian.models.layers.causal import CausalTransformer

POSITION_STD = 1e-2


class AutoregressiveBlock(nn.Module):
    """Bijection of tokens (B, T, p): ``x_j = shift_j + T_j z_j`` with coefficients from ``x_0 ... x_{j-1}``.

    The last token conditions nothing, so the network never sees it. Zero output weights make a new block the identity.

    Parameters
    ----------
    mask
        (T, p) one where a token has the coordinate. Absent ones must be zero and stay zero.
    width, depth, head
        Of the transformer.
    bound, triangular
        See `bounded_affine`; without `triangular`, coordinates are only scaled and shifted.
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
        bound: float,
        triangular: bool,
        start: bool,
        reverse: bool,
    ) -> None:
        super().__init__()
        length, p = mask.shape
        self.bound, self.reverse = bound, reverse
        self.register_buffer("mask", mask.float(), persistent=False)
        self.embed = nn.Linear(p, width)
        self.position = nn.Parameter(POSITION_STD * torch.randn(length, width))
        self.start = nn.Parameter(POSITION_STD * torch.randn(width)) if start else None
        self.transformer = CausalTransformer(width, depth, head, count_coefficients(p, triangular))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return base tokens (B, T, p) of tokens, and the log-determinant (B,), float64."""
        x, mask, position = self._order(x), self._order(self.mask), self._order(self.position)
        e = self.embed(x[:, :-1]) + position[:-1]
        if self.start is None:
            raw = nn.functional.pad(self.transformer(e), (0, 0, 1, 0))
        else:
            raw = self.transformer(torch.cat([self.start.expand(len(x), 1, -1), e], 1))
        affine = bounded_affine(raw, mask, self.bound)
        return self._order(to_base(x, affine)), -affine.log_scale.double().sum((1, 2))

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
            affine = bounded_affine(self.transformer.step(e, cache, j - first), mask[j], self.bound)
            x[:, j] = from_base(z[:, j], affine)
            log_det = log_det + affine.log_scale.double().sum(1)
        return self._order(x), log_det

    def _order(self, tokens: Tensor) -> Tensor:
        """Tokens (..., T, p) in the order of this block, or back."""
        return tokens.flip(-2) if self.reverse else tokens
