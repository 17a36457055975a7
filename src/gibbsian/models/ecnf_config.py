"""Sizes and choices of the equivariant continuous flow, and the published ones."""

from dataclasses import dataclass

from gibbsian.errors import InputError


@dataclass(frozen=True)
class EcnfConfig:
    """Sizes and choices of the flow; the default is small enough for a CPU.

    Attributes
    ----------
    depth, width
        Layers of the network, numbers per atom and per message.
    reach
        Bound of the factors that move atoms, of all layers together, in network units.
    path_noise
        Standard deviation of the noise on the paths of training, in network units.
    tolerance
        Absolute and relative error of a solver step.
    """

    depth: int = 4
    width: int = 32
    reach: float = 15.0
    path_noise: float = 0.0
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.depth, self.width) < 1 or self.reach <= 0.0:
            raise InputError(
                f"ecnf: depth {self.depth}, width {self.width}, reach {self.reach:g}; give positive numbers"
            )
        if self.path_noise < 0.0 or not 0.0 < self.tolerance < 1.0:
            raise InputError(
                f"ecnf: path_noise {self.path_noise:g}, tolerance {self.tolerance:g}; give a noise of at least 0 and "
                "a tolerance between 0 and 1"
            )


@dataclass(frozen=True)
class EcnfPreset:
    """A size with where it comes from."""

    config: EcnfConfig
    source: str


PRESETS = {
    "small": EcnfPreset(EcnfConfig(), "for CPUs and tests"),
    "ecnf": EcnfPreset(EcnfConfig(depth=5, width=64, path_noise=0.01), "arXiv 2406.14426, there called TBG+Full"),
    "ecnf++": EcnfPreset(EcnfConfig(depth=5, width=256), "arXiv 2502.18462, section 4 and appendix E.2"),
}
"""Published sizes by name."""
