"""Couplings of variables that are tokens: splines whose parameters a gated attention unit, or an MLP, finds."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gibbsian.models.layers.coupling import Conditioner, transform
from gibbsian.models.layers.gated_attention import GatedAttention
from gibbsian.models.split_config import SplitConfig

_CIRCLE = 2
"""Features per variable: cosine and sine."""


class TokenHead(nn.Module):
    """Spline parameters (B, t, p) of tokens (B, t, D), zero in the beginning: one map, or one for each token.

    Parameters
    ----------
    n_tokens
        Tokens that have a map of their own; None where one serves all.
    """

    def __init__(self, width: int, n_out: int, n_tokens: int | None) -> None:
        super().__init__()
        self.shared = n_tokens is None
        shape = (n_out, width) if n_tokens is None else (n_tokens, width, n_out)
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(n_out) if n_tokens is None else torch.zeros(n_tokens, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens to parameters."""
        if self.shared:
            return functional.linear(x, self.weight, self.bias)
        return torch.einsum("btd,tdp->btp", x, self.weight) + self.bias


class TokenConditioner(nn.Module):
    """Spline parameters of hidden tokens, which read kept tokens and each other in a gated attention unit.

    A hidden token enters with its identity, a flag and zeros for its value. It is therefore the same in the whole
    batch, and so is all that hidden tokens say to each other.

    Parameters
    ----------
    config
        Sizes and switches.
    hidden, kept
        Places of the tokens in the order of all.
    """

    def __init__(self, config: SplitConfig, hidden: Tensor, kept: Tensor) -> None:
        super().__init__()
        self.hidden: Tensor
        self.kept: Tensor
        self.register_buffer("hidden", hidden, persistent=False)
        self.register_buffer("kept", kept, persistent=False)
        self.values = nn.Linear(_CIRCLE, config.width)
        self.flag = nn.Parameter(torch.randn(config.width))
        self.attention = GatedAttention(config, hidden, kept)
        own = None if config.head == "shared" else len(hidden)
        self.head = TokenHead(config.width, 3 * config.bins + 1, own)

    def forward(self, circle: Tensor, identity: Tensor, drop: bool) -> Tensor:
        """Parameters (B, hidden, 3 K + 1) for values (B, kept, 2) of kept tokens and identities (n, D) of all."""
        hidden = identity.index_select(0, self.hidden) + (self.values.bias + self.flag)
        kept = self.values(circle) + identity.index_select(0, self.kept)
        # Attention adds up what single tokens say; only what bends the sum lets kept variables act together.
        return self.head(functional.silu(self.attention(hidden[None], kept, drop=drop)))


class MLPConditioner(nn.Module):
    """Spline parameters of hidden variables by one MLP of the values of the kept ones."""

    def __init__(self, config: SplitConfig, hidden: Tensor, kept: Tensor) -> None:
        super().__init__()
        self._n_hidden, self._alone = len(hidden), len(kept) == 0
        n_out = len(hidden) * (3 * config.bins + 1)
        self.network = Conditioner(max(_CIRCLE * len(kept), 1), n_out, config.hidden, config.depth)

    def forward(self, circle: Tensor) -> Tensor:
        """Parameters (B, hidden, 3 K + 1) for values (B, kept, 2)."""
        inputs = circle.new_ones(len(circle), 1) if self._alone else circle.flatten(1)
        return self.network(inputs).unflatten(-1, (self._n_hidden, -1))


def count_mlp(config: SplitConfig, n_hidden: int, n_kept: int) -> int:
    """Return the number of parameters of an `MLPConditioner`."""
    n_in, n_out, width = max(_CIRCLE * n_kept, 1), n_hidden * (3 * config.bins + 1), config.hidden
    return (n_in + 1) * width + (config.depth - 1) * (width + 1) * width + (width + 1) * n_out


class TokenCoupling(nn.Module):
    """Transform some variables by splines whose parameters depend on others.

    The splines are those of `gibbsian.models.layers.coupling`; new weights are the identity. Kept variables enter as
    points of the unit circle. Bond angles themselves hardly move on it, so the range of their splines is one turn.

    Parameters
    ----------
    config
        Sizes and switches.
    changed, kept
        Columns, which are the places of tokens too. Columns in neither pass by unseen.
    periodic
        (n,) True for turns on the circle.
    """

    def __init__(self, config: SplitConfig, changed: Tensor, kept: Tensor, periodic: Tensor) -> None:
        super().__init__()
        self.bound = config.bound
        self.changed: Tensor
        self.kept: Tensor
        self.circular: Tensor
        self.scale: Tensor
        scale = torch.where(periodic, 2.0 * torch.pi, torch.pi / config.bound)[kept].to(torch.get_default_dtype())
        for name, value in (
            ("changed", changed),
            ("kept", kept),
            ("circular", periodic[changed]),
            ("scale", scale),
        ):
            self.register_buffer(name, value, persistent=False)
        make = MLPConditioner if config.conditioner == "mlp" else TokenConditioner
        self.conditioner = make(config, changed, kept)

    def forward(self, v: Tensor, identity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return variables (B, n) one step closer to the base, and the log-determinant (B,).

        Takes the identities (n, D) of all tokens, None for an MLP. Dropout is on in training mode.
        """
        return self._transform(v, identity, inverse=False, drop=self.training)

    def inverse(self, v: Tensor, identity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return variables (B, n) one step closer to the data, and the log-determinant (B,); never with dropout."""
        return self._transform(v, identity, inverse=True, drop=False)

    def _transform(self, v: Tensor, identity: Tensor | None, *, inverse: bool, drop: bool) -> tuple[Tensor, Tensor]:
        angle = v[:, self.kept] * self.scale
        circle = torch.stack([angle.cos(), angle.sin()], -1)
        if isinstance(self.conditioner, MLPConditioner):
            p = self.conditioner(circle)
        else:
            assert identity is not None
            p = self.conditioner(circle, identity, drop)
        image, log_det = transform(v[:, self.changed], p, self.circular, self.bound, inverse=inverse)
        return v.index_copy(1, self.changed, image), log_det
