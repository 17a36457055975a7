"""What the table `split-flow` trains: stages that continue each other, on data of peptides and folded proteins."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gibbsian.bench import references
from gibbsian.bench.account import spent_in
from gibbsian.bench.sbg_training import fit_once
from gibbsian.bench.sbg_work import Budget, Desk
from gibbsian.chem.topology import Topology
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.models.split_core import count_parameters, match_parameters
from gibbsian.models.split_flow import SplitFlow, SplitFlowConfig
from gibbsian.progress import Report, silent
from gibbsian.workflow.settings import RunSettings, resolve_settings


@dataclass(frozen=True)
class Size:
    """What the rows of a system cost.

    Attributes
    ----------
    data, exchange
        Simulations for training and testing, and the replica exchange that is continued to the cost of the flows.
    model
        Of the split flow; its baseline has as many couplings and parameters.
    steps, baseline_steps
        Of maximum likelihood, and of that of the baseline, which takes as many core-seconds.
    later_steps, last_steps, later_lr
        Of each stage after it, and of the last of the published schedule, which is short there.
    batch, kl_batch, generated
        As in `gibbsian.training.stages.Stage`.
    w2_atoms
        Atoms whose distances the stages with W2 compare.
    w_w2
        Weight of W2. Reverse KL unravels a protein that W2 does not hold.
    draws, repeats
        Conformations drawn of each target, and how often.
    unseen
        Frames of the independent simulation for likelihoods.
    """

    data: references.Budget
    exchange: references.Budget
    model: SplitFlowConfig
    steps: int
    baseline_steps: int
    later_steps: int
    last_steps: int
    later_lr: float = 5e-4
    batch: int = 256
    kl_batch: int = 128
    generated: str = "all"
    w2_atoms: str = "backbone"
    w_w2: float = 100.0
    draws: int = 100_000
    repeats: int = 3
    unseen: int = 20_000


_FOLDED = references.Budget(
    ns=10,
    ladders=32,
    t_max=300,
    frame_ps=1,
    runs=32,
    run_ns=0.2,
    lag_ps=50,
    start_temperature=400.0,
    start_structure=0.8,
)
_REPLICAS = replace(_FOLDED, ns=0.2, ladders=4, t_max=400)
_PROTEIN = Size(
    _FOLDED,
    _REPLICAS,
    SplitFlowConfig(rotors=False, base="von-mises"),
    steps=2_000,
    baseline_steps=8_000,
    later_steps=900,
    last_steps=100,
    later_lr=1e-3,
    batch=64,
    kl_batch=64,
    generated="slice",
    w_w2=1e5,
    draws=2_000,
    repeats=1,
    unseen=4_000,
)

SIZES = {
    "ACE-ALA-NME@amber96": Size(
        references.DENSE,
        references.DENSE,
        SplitFlowConfig(completion="flow"),
        steps=6_000,
        baseline_steps=15_000,
        later_steps=2_000,
        last_steps=2_000,
    ),
    "HP35-N27": _PROTEIN,
    "protein-G": replace(
        _PROTEIN,
        data=replace(_FOLDED, ns=3.2),
        steps=1_000,
        baseline_steps=4_000,
        later_steps=1_000,
        last_steps=50,
        later_lr=5e-4,
    ),
}
"""Systems from small to large; proteins with what two cores afford."""


@dataclass(frozen=True)
class Variant:
    """A flow by what it was trained on last.

    Attributes
    ----------
    parent
        Flow that the training continues; None for a new one.
    losses
        Besides the likelihood: ``w2``, ``kl`` or both.
    baseline
        Whether its couplings are plain.
    last
        Whether it ends the published schedule.
    """

    parent: str | None
    losses: tuple[Literal["w2", "kl"], ...] = ()
    baseline: bool = False
    last: bool = False


W_KL = 0.5
"""Weight of reverse KL."""
VARIANTS = {
    "nsf": Variant(None, baseline=True),
    "nll": Variant(None),
    "nll+kl": Variant("nll", ("kl",)),
    "nll+w2": Variant("nll", ("w2",)),
    "nll+w2+kl": Variant("nll+w2", ("w2", "kl")),
    "full": Variant("nll+w2+kl", ("kl",), last=True),
}
"""Rows of the published table, and ``full``, the published schedule to its last stage."""


def desk_of(system: str, size: Size, work: Path) -> Desk:
    """Return the desk of a system, whose data and reference are simulations for training and for testing."""
    return Desk(system, Budget(size.data, contiguous_ns=0, steps=size.steps), work / "split-flow" / system)


def exchange_desk_of(desk: Desk, size: Size) -> Desk:
    """Return the desk of replica exchange at equal cost: that of the data where they are replica exchange."""
    if size.exchange == size.data:
        return desk
    return Desk(desk.name, replace(desk.budget, dynamics=size.exchange), desk.folder / "exchange")


def steps_of(name: str, size: Size) -> int:
    """Return the steps of a stage."""
    variant = VARIANTS[name]
    if variant.parent is None:
        return size.baseline_steps if variant.baseline else size.steps
    return size.last_steps if variant.last else size.later_steps


def settings_of(name: str, size: Size, system: str, topology: Topology, seed: int) -> RunSettings:
    """Resolve the settings of a stage."""
    variant = VARIANTS[name]
    stage: dict[str, Any] = {"name": name, "batch": size.batch, "steps": steps_of(name, size)}
    training: dict[str, Any] = {"w2": {"atoms": size.w2_atoms}}
    if variant.parent is None:
        training |= {"patience": stage["steps"]}
    else:
        stage |= {"lr": size.later_lr, "kl_batch": size.kl_batch, "keep": "last"}
        weights = {"w2": size.w_w2, "kl": W_KL}
        stage |= {"generated": size.generated, **{f"w_{loss}": weights[loss] for loss in variant.losses}}
    model = plain(size.model, topology) if variant.baseline else size.model
    given = {"recipe": "split-flow", "seed": seed, "system": {"source": system}, "stages": [stage]}
    given |= {"model": asdict(model), "training": training}
    return resolve_settings(given, "bench split-flow")


def plain(model: SplitFlowConfig, topology: Topology) -> SplitFlowConfig:
    """Return the baseline of a split flow: one channel of plain couplings, as many, with as many parameters."""
    variables = ReducedCoordinates(topology, model.rotors).variables
    baseline = replace(model, backbone=0, full=model.backbone + model.full, conditioner="mlp")
    return match_parameters(baseline, variables, count_parameters(model, variables))


def trained(desk: Desk, size: Size, name: str, seed: int, report: Report = silent) -> SplitFlow:
    """Train a variant and those that it continues, or read it."""
    parent = VARIANTS[name].parent
    start = None if parent is None else trained(desk, size, parent, seed, report)
    settings = settings_of(name, size, desk.name, desk.system.topology, seed)
    flow = fit_once(desk, settings, folder_of(desk, name, seed), report, start)
    assert isinstance(flow, SplitFlow)
    return flow


def folder_of(desk: Desk, name: str, seed: int) -> Path:
    """Return the folder of a training."""
    return desk.folder / f"{name}.seed{seed}"


def cost_of(desk: Desk, name: str, seed: int) -> float:
    """Return the core-seconds of a training and of those that it continues."""
    parent = VARIANTS[name].parent
    before = 0.0 if parent is None else cost_of(desk, parent, seed)
    return before + spent_in(folder_of(desk, name, seed))


def calls_of(name: str, size: Size) -> int:
    """Return the energies that a training and those that it continues evaluate."""
    variant = VARIANTS[name]
    before = 0 if variant.parent is None else calls_of(variant.parent, size)
    return before + (steps_of(name, size) * size.kl_batch if "kl" in variant.losses else 0)
