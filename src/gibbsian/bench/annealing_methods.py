"""How the flows of the table `annealing` are trained, and what that may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gibbsian.bench import references
from gibbsian.bench.account import spent_in
from gibbsian.bench.sbg_proposals import ProposalRecipe
from gibbsian.bench.sbg_training import Fitted, fit_once
from gibbsian.bench.sbg_work import Budget, Desk
from gibbsian.progress import Report, silent
from gibbsian.workflow.settings import RunSettings, resolve_settings

_MEDIUM = replace(references.DENSE, lag_ps=20)
_LARGE = references.Budget(ns=30, ladders=16, t_max=700, frame_ps=0.4, runs=32, run_ns=0.5, lag_ps=20)
_VARIANTS = ("refit", "mass-transport-long", "likelihood+mass-transport")


@dataclass(frozen=True)
class Size:
    """What the methods may spend on a system.

    Attributes
    ----------
    budget
        Of data, reference and distances.
    calls, long, joined
        Energy evaluations of a method that trains on energies, of one that takes its time, and of one that frames join.
    samples, fit_steps
        Draws of a step of annealing, and training steps after it.
    steps
        Training steps of maximum likelihood and of reverse KL.
    left_out
        Methods that it has no rows of.
    """

    budget: Budget
    calls: int
    long: int
    joined: int
    samples: int
    fit_steps: int
    steps: int
    left_out: tuple[str, ...] = ()


SIZES = {
    "ACE-ALA-NME@amber96": Size(
        Budget(references.DENSE, contiguous_ns=0, steps=0, transported_once=0, draws=(100_000,)),
        calls=3_000_000,
        long=9_000_000,
        joined=3_000_000,
        samples=40_000,
        fit_steps=100,
        steps=3_000,
        left_out=("joined",),
    ),
    "ACE-AAA-NME@amber96": Size(
        Budget(_MEDIUM, contiguous_ns=0, steps=0, transported_once=0, draws=(100_000,)),
        calls=2_000_000,
        long=12_000_000,
        joined=3_000_000,
        samples=20_000,
        fit_steps=100,
        steps=3_000,
    ),
    "ACE-AAAAA-NME@amber96": Size(
        Budget(_LARGE, contiguous_ns=0, steps=0, transported_once=0, draws=(10_000,)),
        calls=400_000,
        long=2_000_000,
        joined=400_000,
        samples=10_000,
        fit_steps=50,
        steps=500,
        left_out=_VARIANTS,
    ),
    "ELIL@amber96": Size(
        Budget(_LARGE, contiguous_ns=0, steps=0, transported_once=0, draws=(10_000,)),
        calls=400_000,
        long=2_000_000,
        joined=400_000,
        samples=10_000,
        fit_steps=50,
        steps=500,
        left_out=_VARIANTS,
    ),
}
"""Systems and budgets; those after the second only say where they stand."""


@dataclass(frozen=True)
class Method:
    """How a flow is trained.

    Attributes
    ----------
    annealing
        Replacements of `Annealing`; None for none.
    spends
        Which of the energy evaluations of `Size`.
    likelihood, reverse_kl, refit
        Stages before: maximum likelihood of replica exchange, reverse KL, refit on own samples.
    """

    annealing: Mapping[str, Any] | None = None
    spends: Literal["calls", "long", "joined"] = "calls"
    likelihood: bool = False
    reverse_kl: bool = False
    refit: bool = False

    @property
    def joined(self) -> bool:
        """Whether a tenth as many frames as there are draws join each step: more are learnt by heart."""
        return self.spends == "joined"

    @property
    def on_data(self) -> bool:
        """Whether it takes anything from a simulation; reverse KL has its standardisation from there."""
        return self.likelihood or self.refit or self.reverse_kl


HOT = {"start_temperature": 700.0}
"""Where methods begin that find no way from the prior: at the hottest temperature of replica exchange."""

METHODS: dict[str, Method] = {
    "likelihood": Method(likelihood=True),
    "refit": Method(likelihood=True, refit=True),
    "reverse-kl": Method(reverse_kl=True),
    "fab": Method(
        {**HOT, "method": "fab", "ess_floor": 0.001, "levels": 4, "samples": 2_000, "fit_steps": 60}, likelihood=True
    ),
    "ladder": Method({**HOT, "method": "ladder", "hottest": 700.0, "rungs": 8}, likelihood=True),
    "trust-region": Method({"method": "trust-region"}),
    "mass-transport": Method({"method": "mass-transport"}),
    "mass-transport-long": Method({"method": "mass-transport"}, spends="long"),
    "likelihood+mass-transport": Method({"method": "mass-transport"}, likelihood=True),
    "joined": Method({"method": "mass-transport", "lr": 1e-3}, spends="joined", likelihood=True),
}
"""Methods by the name that their rows begin with; those without likelihood start from the broad prior."""


SHAPE = {"couplings": (8, 6, 6)}
"""The flow of all methods: the best of the table `flows` for long trainings."""
KL_BATCH = 256
"""Conformations of each step of reverse KL."""


def settings_of(name: str, size: Size, system: str, seed: int) -> RunSettings:
    """Resolve the settings of a training."""
    method = METHODS[name]
    stages: list[dict[str, Any]] = []
    if method.likelihood:
        alone = (method.annealing is None and not method.refit) or method.joined
        stages.append({"name": "nll", "steps": size.steps if alone else max(1, round(0.3 * size.steps))})
    if method.refit:
        draws = min(150_000, size.calls)
        stages.append(
            {"name": "refit", "steps": size.steps, "lr": 1.5e-3, "refit_samples": draws, "refit_fraction": 0.8}
        )
    if method.reverse_kl:
        stages.append(
            {"name": "kl", "steps": size.steps, "lr": 5e-4, "w_nll": 0, "w_kl": 1, "kl_batch": KL_BATCH, "keep": "last"}
        )
    given: dict[str, Any] = {"recipe": "spline", "seed": seed, "system": {"source": system}}
    given |= {"stages": stages, "model": SHAPE}
    if method.annealing is not None:
        shared = {
            "calls": getattr(size, method.spends),
            "samples": size.samples,
            "fit_steps": size.fit_steps,
            "lr": 2e-3,
        }
        shared["frames"] = size.samples // 10 if method.joined else 0
        given |= {"annealing": {**shared, **method.annealing}, "training": {"ema": 0.99}}
    return resolve_settings(given, "bench annealing")


def calls_of(name: str, size: Size, seed: int = 0) -> int:
    """Return the energies that a training takes, those of the simulation of its data not counted."""
    settings = settings_of(name, size, "ACE-ALA-NME", seed)
    stages = sum(stage.refit_samples + (KL_BATCH * stage.steps if stage.w_kl > 0 else 0) for stage in settings.stages)
    return stages + (settings.annealing.calls if settings.annealing is not None else 0)


def trained(desk: Desk, size: Size, name: str, seed: int, report: Report = silent) -> Fitted:
    """Train a flow by a method, or continue, or read it."""
    settings = settings_of(name, size, desk.name, seed)
    folder = desk.folder / f"{name}.seed{seed}"
    flow = fit_once(desk, settings, folder, report)
    spent = spent_in(desk.folder / "data") if METHODS[name].on_data else 0.0
    steps = sum(stage.steps for stage in settings.stages)
    recipe = ProposalRecipe("spline", base="spline", samplers=(), cartesian=False)
    return Fitted(flow, recipe, "exchange", seed, steps, spent_in(folder), spent, folder)
