"""Sizes and switches of the split-channel spline flow with gated attention, and of its baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gibbsian.errors import InputError

Position = Literal["rotary", "t5", "absolute"]
Attention = Literal["laplace", "relu2", "softmax"]
Norm = Literal["scale", "layer"]
Head = Literal["shared", "per_variable"]
Base = Literal["uniform", "von-mises"]
Conditioning = Literal["gated-attention", "mlp"]


@dataclass(frozen=True)
class SplitConfig:
    """Sizes and switches (Kim et al., arXiv 2401.04246).

    Attributes
    ----------
    backbone, full
        Couplings of the backbone channel and of all variables, even numbers. The baseline has one channel, so that
        its `backbone` is 0.
    bins
        Bins per spline.
    width, key, value
        Numbers per token, of its query and key, and of its value.
    positions
        How attention knows where tokens are: ``rotary`` turns queries and keys by the index of the token, ``t5`` adds
        a learned bias by distance, ``absolute`` embeds the index of the residue. Any of them, or none.
    attention
        Function of the scores.
    norm
        Normalisation of the tokens that enter: by their length or over their numbers.
    head
        One linear map from tokens to spline parameters for each variable, or one for all.
    dropout
        Share of the attention's output dropped when likelihoods are trained.
    base
        Law of torsions at the base.
    conditioner
        What gives the splines their parameters; ``mlp`` is the baseline of plain spline couplings.
    hidden, depth
        Width and number of hidden layers of the MLP.
    bound
        Splines of angles act within [-bound, bound] standard deviations.
    mask_seed
        Seed of the random halves.

    Raises
    ------
    InputError
        If a number is out of its range, a name is unknown, or the baseline has a backbone channel.
    """

    backbone: int = 4
    full: int = 4
    bins: int = 8
    width: int = 32
    key: int = 16
    value: int = 32
    positions: Sequence[Position] = ("rotary", "t5")
    attention: Attention = "laplace"
    norm: Norm = "scale"
    head: Head = "per_variable"
    dropout: float = 0.0
    base: Base = "uniform"
    conditioner: Conditioning = "gated-attention"
    hidden: int = 64
    depth: int = 1
    bound: float = 5.0
    mask_seed: int = 0

    def __post_init__(self) -> None:
        named = isinstance(self.positions, Sequence) and not isinstance(self.positions, str)
        object.__setattr__(self, "positions", tuple(self.positions) if named else (self.positions,))
        for name in ("backbone", "full"):
            number = getattr(self, name)
            if not _is_whole(number, 0) or number % 2:
                raise _refusal(name, number, "couplings come in pairs, give an even number from 0")
        for name, least in (("bins", 2), ("width", 1), ("key", 2), ("value", 1), ("hidden", 1), ("depth", 1)):
            if not _is_whole(getattr(self, name), least):
                raise _refusal(name, getattr(self, name), f"give a whole number from {least}")
        if self.key % 2:
            raise _refusal("key", self.key, "rotary positions turn pairs of numbers, give an even one")
        for name, kinds in (
            ("attention", Attention),
            ("norm", Norm),
            ("head", Head),
            ("base", Base),
            ("conditioner", Conditioning),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise _refusal(name, getattr(self, name), f"choose {' or '.join(get_args(kinds))}")
        if not set(self.positions) <= set(get_args(Position)) or len(set(self.positions)) < len(self.positions):
            raise _refusal("positions", list(self.positions), f"choose each once among {', '.join(get_args(Position))}")
        if not 0.0 <= self.dropout < 1.0:
            raise _refusal("dropout", self.dropout, "give a share from 0 to below 1")
        if not 0.0 < self.bound < math.inf:
            raise _refusal("bound", self.bound, "give a positive number")
        if self.conditioner == "mlp" and self.backbone:
            raise _refusal("backbone", self.backbone, "the mlp baseline has one channel, give 0 and more in full")


def _is_whole(number: Any, least: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


def _refusal(name: str, value: Any, advice: str) -> InputError:
    return InputError(f"split flow: {name}: got {value!r}; {advice}")


PRESETS = {
    "paper": SplitConfig(backbone=48, full=10, width=64, key=32, value=64, head="shared", dropout=0.1),
    "small": SplitConfig(),
    "ci": SplitConfig(full=2, head="shared"),
    "nsf": SplitConfig(backbone=0, full=58, conditioner="mlp"),
}
"""Sizes by name: of the paper, for CPUs, for tests, and the baseline of the paper."""
