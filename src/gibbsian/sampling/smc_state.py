"""Settings of sequential Monte Carlo, its state, and both on disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.ensemble.weights import Scheme
from gibbsian.errors import InputError
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.parallel.group import is_first
from gibbsian.sampling.bridge import Particles
from gibbsian.sampling.kernels import KERNELS, LEAPFROG, KernelName, RegenForm
from gibbsian.sampling.schedule import Interpolant
from gibbsian.sampling.truncation import Truncation

FORMAT = "gibbsian-smc-1"
START, LATEST = "start.safetensors", "state.safetensors"
"""Files of the first draws and of the last checkpoint."""


@dataclass(frozen=True)
class SmcSettings:
    """How particles are led from the proposal to the target.

    Attributes
    ----------
    kernel
        ``mala``, ``hmc``, ``rwm`` (no gradients) or ``ula`` (biased, the result says so).
    moves, n_leapfrog
        Moves at each level; leapfrog steps of each move of ``hmc``.
    step
        Width of a move's noise in nm, or leapfrog step; None finds and adapts it.
    regen
        One move at each level that draws a part of the proposal's latent variables anew, ``mix`` or ``subset``, where
        the proposal offers them; None for none.
    interpolant, coolest
        See `gibbsian.sampling.schedule.coefficients`.
    levels
        Number of levels, or the most of them if they are placed by `conditional_ess`.
    conditional_ess
        Effective fraction that each step shall keep; None takes equal steps.
    threshold, scheme
        Resample below this effective fraction, and how.
    truncation
        What to leave out; by default nothing.
    clip_at
        ``start`` clips the first importance weights, as the publication does, ``end`` the last.
    chunk
        Particles that move together: it bounds the memory and is part of the result. Several processes share the
        chunks, and each halves one that does not fit into its memory.
    checkpoint_every
        Levels between checkpoints.
    """

    kernel: KernelName = "mala"
    moves: int = 1
    n_leapfrog: int = LEAPFROG
    step: float | None = None
    regen: RegenForm | None = "mix"
    interpolant: Interpolant = "linear"
    coolest: float = 0.7
    levels: int = 100
    conditional_ess: float | None = 0.95
    threshold: float = 0.5
    scheme: Scheme = "systematic"
    truncation: Truncation = field(default_factory=Truncation)
    clip_at: str = "end"
    chunk: int = 1000
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise InputError(f"smc kernel: got {self.kernel!r}; choose one of {', '.join(KERNELS)}")
        for name in ("n_leapfrog", "levels", "chunk", "checkpoint_every", "coolest"):
            if not getattr(self, name) > 0:
                raise InputError(f"smc {name}: got {getattr(self, name)}; give a positive number")
        if self.moves < 0 or not 0 <= self.threshold <= 1:
            raise InputError(f"smc moves, threshold: got {self.moves}, {self.threshold}; give >= 0, and 0 to 1")
        if self.step is not None and not self.step > 0:
            raise InputError(f"smc step: got {self.step} nm; give a positive number, or None to find one")
        if self.conditional_ess is not None and not 0 < self.conditional_ess < 1:
            raise InputError(f"smc conditional_ess: got {self.conditional_ess}; give a fraction such as 0.95, or None")
        if self.clip_at not in ("start", "end"):
            raise InputError(f"smc clip_at: got {self.clip_at!r}; choose start or end")


def paper_settings(scale: float, h: float = 1e-7) -> SmcSettings:
    """Return what arXiv 2502.18462 used (appendix E.4 and its first code), to reproduce its numbers.

    Unadjusted Langevin moves which hardly move, 100 equal steps, multinomial resampling below half, and the largest
    0.2 % of the importance weights dropped at the start: both biases are in the record of the result.

    Parameters
    ----------
    scale
        Length of the network's unit in nm, which is the spread of the centred coordinates (about 0.16).
    h
        Step in squared network units: 1e-7 for two and three residues, 1e-8 for four and six, 2e-8 for chignolin.
    """
    return SmcSettings(
        kernel="ula",
        step=scale * (2.0 * h) ** 0.5,
        regen=None,
        levels=100,
        conditional_ess=None,
        scheme="multinomial",
        truncation=Truncation(clip=0.002),
        clip_at="start",
    )


@dataclass(frozen=True, eq=False)
class SmcState:
    """Particles on their way.

    Attributes
    ----------
    particles
        All of them, (n, ...).
    log_w
        (n,) log weights since the last resampling.
    ancestors
        (n,) draw from which each particle descends.
    log_z
        What resampling has taken out of the weights.
    t, level
        Where on the path; levels done.
    steps
        Step of the kernel, and of `regen`.
    history
        One record per level.
    calls
        Conformations evaluated.
    """

    particles: Particles
    log_w: Tensor
    ancestors: Tensor
    log_z: float
    t: float
    level: int
    steps: tuple[float, float]
    history: tuple[dict[str, Any], ...]
    calls: int

    @property
    def full_log_w(self) -> NDArray[np.float64]:
        """(n,) log weights with everything that resampling took out, whose mean is the estimate of Z."""
        return self.log_w.numpy() + self.log_z


def write_state(place: Path | None, name: str, state: SmcState) -> None:
    """Write a state; nothing without a folder, or by other processes than the first."""
    if place is None or not is_first():
        return
    tensors = {f"particles.{key}": value for key, value in state.particles.tensors().items()}
    header = {"format": FORMAT, **{key: getattr(state, key) for key in ("log_z", "t", "level", "steps", "history")}}
    tensors |= {"log_w": state.log_w, "ancestors": state.ancestors}
    write_tensors(place / name, tensors, header | {"calls": state.calls})


def read_state(place: Path | None, name: str) -> SmcState | None:
    """Read a state; None where there is none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if place is None or not (place / name).exists():
        return None
    tensors, header = read_tensors(place / name, FORMAT)
    log_w, ancestors = tensors.pop("log_w"), tensors.pop("ancestors")
    particles = Particles(**{name.removeprefix("particles."): value for name, value in tensors.items()})
    return SmcState(
        particles,
        log_w,
        ancestors,
        log_z=header["log_z"],
        t=header["t"],
        level=header["level"],
        steps=tuple(header["steps"]),
        history=tuple(header["history"]),
        calls=header["calls"],
    )
