"""Sizes and choices of the transformer flow, and the published sizes by system."""

from dataclasses import dataclass
from typing import Literal

from gibbsian.errors import InputError
from gibbsian.models.gauges import COM_CHOICES


@dataclass(frozen=True)
class TarFlowConfig:
    """Sizes and choices of the flow; the default is small enough for a CPU.

    Attributes
    ----------
    blocks, depth, width, head
        Blocks, transformer layers in each, numbers per token, numbers per attention head.
    tokens
        ``atom``: three numbers per token. ``coordinate``: one, as published for alanine dipeptide, at a multiple of
        the cost.
    order
        ``topology``: atoms as in the topology, as published. ``bonds``: from the frame (or the middle of the chain)
        outwards along the bonds; for the gauge ``local``, along the chain as its frames need. The reverse blocks
        reverse either.
    map
        ``affine``: shifts and scales, as published. ``spline``: in the first block, next to the data, each number of an
        atom follows those before it and may have several peaks.
    bins, hidden
        Of the splines, and width of the network that gives each of them its parameters.
    triangular
        Let the scale of an atom be a lower triangular matrix in place of three numbers.
    start
        Put a learnt token first, so that every block transforms its first token too.
    bound
        Log-scales of a block stay within (-bound, bound).
    gauge
        ``soft``: rotation augmentation and noise on the centre of mass, as published. ``meanfree``: the same without a
        centre. ``frame``: 3n - 6 coordinates in a frame fixed to three atoms. ``local``: each atom in a frame of the
        atoms that it hangs on.
    com
        Law of the centre of mass for ``soft``: ``gaussian`` is exact, ``chi3`` the published one, ``fitted`` exact with
        the mean and covariance that the trained flow has.
    frame
        The three atoms of ``frame``; by default CA, N, C in the middle of the chain.
    one_labelling
        Model one of the equivalent labellings of the hydrogens of methyl and ammonium groups.
    recompute
        Keep only what enters each block during training and compute the rest again: less memory, a third more time.
    """

    blocks: int = 4
    depth: int = 2
    width: int = 64
    head: int = 64
    tokens: Literal["atom", "coordinate"] = "atom"
    order: Literal["topology", "bonds"] = "topology"
    map: Literal["affine", "spline"] = "affine"
    bins: int = 12
    hidden: int = 32
    triangular: bool = False
    start: bool = False
    bound: float = 4.0
    gauge: Literal["soft", "meanfree", "frame", "local"] = "soft"
    com: Literal["gaussian", "chi3", "fitted"] = "gaussian"
    frame: tuple[int, int, int] | None = None
    one_labelling: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        if min(self.blocks, self.depth, self.width, self.head) < 1 or self.width % self.head:
            raise InputError(
                f"tarflow: blocks {self.blocks}, depth {self.depth}, width {self.width}, head {self.head}; "
                "give positive numbers and a width that is a multiple of head"
            )
        if min(self.bins, self.hidden) < 2:
            raise InputError(f"tarflow: bins {self.bins}, hidden {self.hidden}; give at least 2 of either")
        if self.order == "bonds" and self.gauge == "meanfree":
            raise InputError("tarflow: order bonds: the tokens of the gauge meanfree are not atoms; choose topology")
        if self.bound <= 0.0 or self.com not in COM_CHOICES:
            raise InputError(
                f"tarflow: bound {self.bound}, com {self.com!r}; give a positive bound, and for com one of "
                + ", ".join(COM_CHOICES)
            )


@dataclass(frozen=True)
class Preset:
    """A size with where it comes from."""

    config: TarFlowConfig
    source: str


_PAPER = "arXiv 2502.18462, appendix E.4; tokens are atoms"
PRESETS = {
    "small": Preset(TarFlowConfig(), "for CPUs and tests"),
    "ACE-ALA-NME": Preset(TarFlowConfig(4, 4, 256), _PAPER + " where the paper takes coordinates"),
    "AAA": Preset(TarFlowConfig(6, 6, 256), _PAPER),
    "ACE-AAA-NME": Preset(TarFlowConfig(6, 6, 384), _PAPER + "; the public code has width 256"),
    "AAAAAA": Preset(TarFlowConfig(6, 6, 384), _PAPER),
    "GYDPETGTWG": Preset(TarFlowConfig(8, 8, 512), _PAPER + "; the public code has width 384"),
}
"""Sizes by system; take one with `dataclasses.replace` to change its gauge."""
