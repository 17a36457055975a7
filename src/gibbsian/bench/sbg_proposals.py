"""Proposals of the table `sbg`: how each is made and trained. Another one is another entry here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gibbsian.models.registry import MODELS
from gibbsian.models.tarflow_config import TarFlowConfig
from gibbsian.workflow.settings import RunSettings, resolve_settings

SAMPLERS = ("smc-ula", "smc-mala", "smc-hmc", "smc-rwm", "smc-regen", "smc", "exchange")
"""What else than importance sampling can be done with a proposal: annealing with each kernel, with the settings of the
package (MALA and partial regeneration), and replica exchange with draws of the proposal as moves."""


@dataclass(frozen=True)
class ProposalRecipe:
    """How a proposal is made and trained.

    Attributes
    ----------
    model
        A key of `MODELS`.
    settings
        Sizes and choices of the model.
    base
        Recipe of the package whose other settings are taken.
    steps
        Share of the training steps that a system has.
    lr, batch, refit
        Highest learning rate; conformations per step; own weighted samples that a second stage learns from, 0 for no
        second stage.
    training
        Replacements of `TrainSettings`.
    draws
        Numbers of draws of its rows; None for those of the system.
    samplers
        Which of `SAMPLERS` have rows.
    cartesian
        Whether its density may depend on the orientation.
    systems
        Where it has rows; None for everywhere.
    cost
        Cost of a draw and of a training step, relative to a TarFlow of the default size.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: str = "sbg"
    steps: float = 1.0
    lr: float = 1e-3
    batch: int = 256
    refit: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    draws: tuple[int, ...] | None = None
    samplers: tuple[str, ...] = SAMPLERS
    cartesian: bool = True
    systems: tuple[str, ...] | None = None
    cost: float = 1.0

    @property
    def available(self) -> bool:
        """Whether this version has the model."""
        return self.model in MODELS


NETWORK = {"map": "spline", "triangular": True, "start": True, "one_labelling": True, "head": 32, "order": "bonds"}
"""The network of the recipe `sbg`, the same whatever the gauge."""

PROPOSALS: dict[str, ProposalRecipe] = {
    "local": ProposalRecipe("tarflow", {**NETWORK, "gauge": "local"}, lr=3e-3, cartesian=False),
    "frame": ProposalRecipe("tarflow", {**NETWORK, "gauge": "frame"}, lr=3e-3, cartesian=False, samplers=("smc-mala",)),
    "soft": ProposalRecipe("tarflow", {**NETWORK, "gauge": "soft"}, lr=3e-3, samplers=("smc-ula", "smc-mala")),
    "spline": ProposalRecipe(
        "spline", base="spline", steps=0.075, lr=2e-3, refit=150_000, samplers=(), cartesian=False, cost=0.2
    ),
    "ecnf": ProposalRecipe("ecnf", {"path_noise": 0.01}, "ecnf", lr=2e-3, batch=64, draws=(300,), samplers=()),
    "ecnf_plus": ProposalRecipe("ecnf", {}, "ecnf_plus", lr=2e-3, batch=64, draws=(300,), samplers=()),
    "eacf": ProposalRecipe(
        "eacf",
        base="eacf",
        steps=0.1,
        batch=64,
        # A held-out loss costs as much as a hundred steps.
        training={"evaluate_every": 300, "checkpoint_every": 100},
        draws=(1_000,),
        samplers=(),
        cartesian=False,
        systems=("ACE-ALA-NME",),
        cost=15.0,
    ),
}
"""Proposals by the name that their rows begin with."""


def settings_of(
    recipe: ProposalRecipe, system: str, steps: int, seed: int, training: Mapping[str, Any] | None = None
) -> RunSettings:
    """Resolve the settings of a training; `training` replaces settings of the recipe's own."""
    first = max(1, round(recipe.steps * steps))
    stages: list[dict[str, Any]] = [
        {"name": "learn", "steps": first, "lr": recipe.lr, "batch": recipe.batch, "warmup": max(1, first // 20)}
    ]
    if recipe.refit:
        refit = min(recipe.refit, 100 * steps)
        stages.append({**stages[0], "name": "refit", "steps": 2 * first, "refit_samples": refit, "refit_fraction": 0.8})
    every = max(1, min(200, first // 20))
    often = {"evaluate_every": every, "checkpoint_every": every}
    # A recipe's choices are those of its own model; another model starts from its defaults.
    model = {**asdict(MODELS[recipe.model].config()), **recipe.settings}
    given = {
        "recipe": recipe.base,
        "proposal": recipe.model,
        "seed": seed,
        "system": {"source": system},
        "model": model,
        "stages": stages,
        "training": {**often, **recipe.training, **(training or {})},
    }
    return resolve_settings(given, "bench sbg")


def forward_seconds(recipe: ProposalRecipe, n_atoms: int) -> float:
    """Rough core-seconds of one density of a conformation, for estimates: flops of the layers at 75 GFlop/s."""
    config = MODELS[recipe.model].config(**recipe.settings)
    size = config if isinstance(config, TarFlowConfig) else TarFlowConfig()
    weights = size.blocks * size.depth * 12 * size.width**2
    return recipe.cost * 2 * weights * n_atoms / 75e9
