"""Sizes and choices of the augmented coupling flow, and the published ones."""

from dataclasses import dataclass
from typing import Literal

from gibbsian.errors import InputError


@dataclass(frozen=True)
class EacfConfig:
    """Sizes and choices of the flow; the default is small enough for a CPU.

    Attributes
    ----------
    layers
        Layers, each of which moves the auxiliary atoms and the atoms once.
    depth, width
        Layers of each network, numbers per atom and per message.
    bins
        Intervals of each spline.
    reach
        Bound of the factors that move atoms inside a network, of all its layers together, in network units.
    noise
        Standard deviation of an auxiliary coordinate about its atom, in network units.
    draws
        Auxiliary conformations in each estimate of the density of a conformation alone.
    weights
        What `log_q` of a sample is: ``joint``, with the auxiliary atoms that it was made with, whose weights are exact,
        or ``average``, the published estimate over `draws`, whose weights are biased and labelled.
    """

    layers: int = 4
    depth: int = 2
    width: int = 32
    bins: int = 8
    reach: float = 4.0
    noise: float = 0.5
    draws: int = 20
    weights: Literal["joint", "average"] = "joint"

    def __post_init__(self) -> None:
        sizes = (self.layers, self.depth, self.width, self.draws, self.bins - 1)
        if min(sizes) < 1 or self.reach <= 0.0 or self.noise <= 0.0:
            raise InputError(
                f"eacf: layers {self.layers}, depth {self.depth}, width {self.width}, bins {self.bins}, draws "
                f"{self.draws}, reach {self.reach:g}, noise {self.noise:g}; give positive numbers and two bins"
            )
        if self.weights not in ("joint", "average"):
            raise InputError(f"eacf: weights: got {self.weights!r}; choose joint or average")


@dataclass(frozen=True)
class EacfPreset:
    """A size with where it comes from."""

    config: EacfConfig
    source: str


PRESETS = {
    "small": EacfPreset(EacfConfig(), "for CPUs and tests"),
    "eacf": EacfPreset(EacfConfig(layers=20, depth=3, width=128), "arXiv 2308.10364, alanine dipeptide"),
}
"""Published sizes by name."""
