"""What a training run does: a list of stages and the settings they share."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from gibbsian.errors import InputError
from gibbsian.training.distance_w2 import W2Settings

Source = Literal["snis", "smc"]
StopOn = Literal["likelihood", "energy"]
Generated = Literal["all", "slice"]
Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Stage:
    """One leg of training, with its own learning-rate cycle; it starts from the best weights of the one before.

    Attributes
    ----------
    name
        Shown in logs.
    steps
        Optimiser steps.
    w_nll, w_kl, w_w2
        Weights of the negative log likelihood of data, of the reverse Kullback-Leibler divergence, and of the squared
        2-Wasserstein distance between backbone distances of generated conformations and of the data, nm^2 per distance.
    lr
        Highest learning rate, reached after `warmup` steps and followed by a cosine to zero.
    batch
        Conformations per step for the likelihood.
    warmup
        Steps of linear warm-up.
    kl_batch, kl_drop
        Conformations generated per step for the divergence and W2, and how many of the highest energies the former
        leaves out.
    generated
        Where they are generated: ``all`` coordinates, or the ``slice`` on which a reduced flow has frozen some.
    keep
        Which averaged weights the stage leaves: the ``best`` by `TrainSettings.stop_on`, which ends the stage when it
        stops rising, or the ``last``, for losses of which held-out data say nothing.
    refit_samples
        Conformations drawn from the flow at the start of the stage and weighted by their energies; they then serve
        as data, mixed with the given ones.
    refit_fraction
        Largest share of each batch that comes from those; less where they are effectively few against the data.
    refit_source
        ``snis``: the draws with their importance weights. ``smc``: annealed to the target first, which takes gradients
        of energies and of the density, but leaves more different samples.
    refit_penalty
        Weight of 0.5 (log q - log q_teacher)^2, the squared step away from the model that the stage began with.
    refit_rounds
        Repeat the stage so often, each time with new own samples beside the old ones.
    refit_guard
        After each round compare draws with those of the model before; where the effective fraction of unclipped
        weights falls, or a basin of the held-out data is lost, take the round back and end the stage.
    """

    name: str
    steps: int
    w_nll: float = 1.0
    w_kl: float = 0.0
    w_w2: float = 0.0
    lr: float = 2e-3
    batch: int = 256
    warmup: int = 50
    kl_batch: int = 256
    kl_drop: int = 10
    generated: Generated = "all"
    keep: Keep = "best"
    refit_samples: int = 0
    refit_fraction: float = 0.5
    refit_source: Source = "snis"
    refit_penalty: float = 0.0
    refit_rounds: int = 1
    refit_guard: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.lr > 0 or self.warmup < 0:
            raise InputError(
                f"stage {self.name}: steps, batch and lr must be positive and warmup >= 0; correct the stage"
            )
        weights = (self.w_nll, self.w_kl, self.w_w2)
        if not (all(w >= 0 for w in weights) and sum(weights) > 0):
            raise InputError(f"stage {self.name}: w_nll, w_kl and w_w2 must be >= 0 and not all 0; correct the stage")
        for name, kinds in (("generated", Generated), ("keep", Keep)):
            if getattr(self, name) not in get_args(kinds):
                known = " or ".join(get_args(kinds))
                raise InputError(f"stage {self.name}: {name} is {getattr(self, name)!r}; choose {known}")
        if not 0.0 <= self.refit_fraction <= 1.0 or not 0 <= self.kl_drop < self.kl_batch:
            raise InputError(
                f"stage {self.name}: refit_fraction must be in [0, 1] and kl_drop below kl_batch; correct the stage"
            )

        if self.refit_samples < 0:
            raise InputError(f"stage {self.name}: refit_samples: got {self.refit_samples}; give zero or more")
        if self.refit_source not in get_args(Source) or not self.refit_penalty >= 0 or self.refit_rounds < 1:
            raise InputError(
                f"stage {self.name}: refit_source must be {' or '.join(get_args(Source))}, refit_penalty >= 0 and "
                "refit_rounds >= 1; correct the stage"
            )
        if self.refit_samples == 0 and (self.refit_penalty > 0 or self.refit_rounds > 1 or self.refit_guard):
            raise InputError(f"stage {self.name}: refit_samples is 0, so there is nothing to refit; set refit_samples")

    @property
    def needs_teacher(self) -> bool:
        """Whether the model that the stage begins with is kept beside the one that learns."""
        return self.refit_penalty > 0 or self.refit_guard

    @property
    def generates(self) -> bool:
        """Whether gradients flow through generated conformations."""
        return self.w_kl > 0 or self.w_w2 > 0

    @property
    def needs_target(self) -> bool:
        """Whether the stage evaluates energies."""
        return self.w_kl > 0 or self.refit_samples > 0


@dataclass(frozen=True)
class TrainSettings:
    """Settings shared by all stages.

    Attributes
    ----------
    seed
        Of batches, relabellings and generated samples.
    ema
        Decay of the averaged weights, which are the result.
    weight_decay, betas, clip
        Of AdamW; gradient norm above which steps are shortened.
    held_out
        Share of the data kept for early stopping, whole lineages or contiguous blocks.
    rare_share
        Least share of a batch that each backbone basin gets, over the number of residues; 0 for the data's own.
    evaluate_every, patience
        Steps between evaluations on held-out data, and how many without improvement end a stage.
    checkpoint_every
        Steps between checkpoints.
    stop_on, stop_samples
        What the best weights are best in. ``likelihood``: the loss of held-out frames. ``energy``: the distance of the
        energies of so many own samples from those of held-out frames, within the range of the latter; it needs
        energies, and as many draws at each evaluation.
    w2
        What W2 compares.
    """

    seed: int = 0
    ema: float = 0.995
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 20.0
    held_out: float = 0.1
    rare_share: float = 0.08
    evaluate_every: int = 100
    patience: int = 5
    checkpoint_every: int = 100
    stop_on: StopOn = "likelihood"
    stop_samples: int = 2000
    w2: W2Settings = field(default_factory=W2Settings)

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "patience", "checkpoint_every", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"training: {name}: got {getattr(self, name)}; give a positive number")
        for name in ("seed", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise InputError(f"training: {name}: got {getattr(self, name)}; give zero or more")
        if not (0.0 <= self.ema < 1.0 and 0.0 < self.held_out < 1.0 and 0.0 <= self.rare_share <= 1.0):
            raise InputError(
                f"training: ema {self.ema:g}, held_out {self.held_out:g}, rare_share {self.rare_share:g}; give an ema "
                "from 0 to below 1, held_out between 0 and 1, rare_share from 0 to 1"
            )
        if not all(0.0 <= beta < 1.0 for beta in self.betas) or len(self.betas) != 2:
            raise InputError(f"training: betas are {self.betas}; give two numbers from 0 to below 1")
        if self.stop_on not in get_args(StopOn) or self.stop_samples < 100:
            raise InputError(
                f"training: stop_on is {self.stop_on!r} with stop_samples {self.stop_samples}; choose one of "
                f"{', '.join(get_args(StopOn))}, and at least 100 samples"
            )


def default_stages() -> list[Stage]:
    """Likelihood of simulation data, then of the flow's own weighted samples.

    The likelihood of simulation data overfits within some hundred steps; the refit removes that limit, because own
    samples cost one energy each and their weights are exact. Simulation data stay in the mix, so that a basin which
    the flow missed is not forgotten.
    """
    return [
        Stage("nll", 600),
        Stage("refit", 1400, lr=1.5e-3, refit_samples=150_000, refit_fraction=0.8),
    ]
