"""Settings of an annealing, and the controller that they name."""

from dataclasses import dataclass
from typing import Literal, get_args

from gibbsian.errors import InputError
from gibbsian.training.annealing.controllers import (
    Controller,
    EffectiveSize,
    Geometric,
    MassTransport,
    MinimumVariance,
    geometric_ladder,
)

Method = Literal["mass-transport", "trust-region", "entropy", "ladder", "effective-size", "geometric", "fab"]


@dataclass(frozen=True)
class Annealing:
    """How a flow is led to the Boltzmann distribution by energies alone.

    Attributes
    ----------
    method
        ``mass-transport``: bounds on both the step and the loss of entropy; ``trust-region`` and ``entropy``: one of
        them; ``ladder``: falling temperatures; ``effective-size``: the same, as fast as the weights allow;
        ``geometric``: equal mixtures of flow and target; ``fab``: annealed importance sampling towards p^2 / q.
    start_temperature
        Weight the data of the stages before for this temperature (K); None for that of the target.
    calls
        Energy evaluations that may be spent.
    samples, frames
        Draws of each step, and frames of the simulation that join them as draws of the target. With frames every step
        leads there, whatever the method, for no weight is large then.
    fit_steps, batch, lr, warmup
        Training steps after each draw, and conformations of each; the learning rate, reached in so many steps, from
        where it falls by a cosine to zero when the calls are spent.
    passes
        How often a fit may see each of its effective samples; it has fewer steps where that is reached earlier.
        ``fab``, whose few effective samples change as the flow moves, takes all its steps.
    trust, entropy
        Bounds in nats on KL(q' | q) and H(q) - H(q').
    hottest, rungs
        First temperature of the ladder in K, and the number of its temperatures.
    fraction
        Effective fraction that a step of ``effective-size`` keeps.
    mixtures
        Number of steps of ``geometric``.
    ess_floor
        Effective fraction below which a step is shortened, and refused if that does not help.
    levels, moves
        Of annealed importance sampling: distributions between q and p^2 / q, moves at each.
    memory
        Generations of samples that ``fab`` learns from, and the other methods once a step leads to the target.
    """

    method: Method = "mass-transport"
    start_temperature: float | None = None
    calls: int = 2_000_000
    samples: int = 20_000
    frames: int = 0
    fit_steps: int = 100
    batch: int = 512
    lr: float = 1e-3
    warmup: int = 10
    passes: float = 2.0
    trust: float = 0.3
    entropy: float = 1.0
    hottest: float = 1200.0
    rungs: int = 10
    fraction: float = 0.5
    mixtures: int = 10
    ess_floor: float = 0.05
    levels: int = 8
    moves: int = 1
    memory: int = 16

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"annealing: method is {self.method!r}; choose one of {', '.join(get_args(Method))}")
        counts = {name: getattr(self, name) for name in ("calls", "samples", "fit_steps", "batch", "levels", "moves")}
        counts |= {"rungs": self.rungs, "mixtures": self.mixtures, "memory": self.memory}
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"annealing: {name} is {count}; give a positive number")
        if self.frames < 0:
            raise InputError(f"annealing: frames is {self.frames}; give 0 or a positive number")
        if self.frames > 0 and self.method == "fab":
            raise InputError("annealing: frames are of p, and fab learns p^2 / q; leave frames out")
        if self.calls < self.samples:
            raise InputError(f"annealing: calls ({self.calls}) are fewer than samples ({self.samples}); raise calls")
        if not (
            self.lr > 0
            and self.passes > 0
            and self.trust > 0
            and self.entropy > 0
            and (self.start_temperature or 1.0) > 0
        ):
            raise InputError(
                "annealing: lr, passes, trust, entropy and start_temperature must be positive; correct them"
            )
        if not 0 < self.ess_floor < self.fraction < 1:
            raise InputError(
                f"annealing: ess_floor is {self.ess_floor}, fraction {self.fraction}; give 0 < ess_floor < fraction < 1"
            )

    def controller(self, temperature: float) -> Controller:
        """Return the rule of the method; `temperature` (K) is that of the target."""
        match self.method:
            case "mass-transport":
                return MassTransport(self.trust, self.entropy)
            case "trust-region":
                return MassTransport(self.trust, float("inf"))
            case "entropy":
                return MassTransport(float("inf"), self.entropy)
            case "ladder":
                return geometric_ladder(self.hottest, temperature, self.rungs)
            case "effective-size":
                return EffectiveSize(self.fraction)
            case "geometric":
                return Geometric(tuple((k + 1) / self.mixtures for k in range(self.mixtures)))
            case "fab":
                return MinimumVariance()
