"""Table `sbg`: Sequential Boltzmann Generators against replica exchange, row by row, beside the published numbers.

Rows of a system: ``data`` (what proposals learn from), for each proposal ``PROPOSAL.training``, ``PROPOSAL.METHOD@N``
and ``PROPOSAL.curve``, and ``PROPOSAL.replica-exchange`` at the cost of its largest importance sampling. After a hyphen
stands the law of other training data: ``frame-contiguous``. Ablations and speeds are rows as well.

A row is the summary of work that lies in folders beside the results: simulations, trainings, draws. Rows share it.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from gibbsian.bench import published, references, sbg_ablations, sbg_costs, sbg_speed
from gibbsian.bench.account import spent_in
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey, read_row
from gibbsian.bench.sbg_curves import curve, shape_nll, unseen_frames
from gibbsian.bench.sbg_figures import figures as figures
from gibbsian.bench.sbg_methods import draw_by
from gibbsian.bench.sbg_metrics import judge_of, judged
from gibbsian.bench.sbg_proposals import PROPOSALS
from gibbsian.bench.sbg_training import Fitted, trained
from gibbsian.bench.sbg_work import LAWS, PLAIN, Budget, Desk, equal_cost, training_data
from gibbsian.bench.tables import Place
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.sampling.forward import forward_ess
from gibbsian.sampling.orientation import orientation_ess
from gibbsian.threads import one_thread

_MEDIUM = references.Budget(ns=200, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=20)
_LARGE = references.Budget(ns=30, ladders=16, t_max=700, frame_ps=2, runs=32, run_ns=0.5, lag_ps=20)
_FOLDING = references.Budget(ns=8, ladders=8, t_max=600, frame_ps=2, runs=32, run_ns=0.2, lag_ps=10)

BUDGETS = {
    "ACE-ALA-NME": Budget(references.BUDGETS["ACE-ALA-NME"], contiguous_ns=4, steps=6_000),
    "AAA": Budget(_MEDIUM, contiguous_ns=4, steps=2_000),
    "ACE-AAA-NME": Budget(_LARGE, contiguous_ns=4, steps=500),
    "AAAAAA": Budget(_LARGE, contiguous_ns=4, steps=300),
    "chignolin": Budget(_FOLDING, contiguous_ns=1, steps=100, draws=(1_000,), levels=20),
    "CLN025": Budget(_FOLDING, contiguous_ns=1, steps=100, draws=(1_000,), levels=20),
}
"""Systems, and what their rows cost; those after the second only show that their recipes run."""

SEEDS = {"ACE-ALA-NME": (0, 1, 2)}
"""Training seeds; one for the other systems."""

SEEDED = ("local",)
"""Proposals with all training seeds."""

PROTOCOL = "local"
"""The proposal that is also trained by the published protocols."""

COLUMNS = (
    "ess_fraction",
    "effective_fraction",
    "k_hat",
    "e_w1",
    "e_w2",
    "t_w2",
    "tica_w2",
    "basin_error",
    "basin_strain",
    "missed_basins",
    "log_z",
    "energy_calls",
    "core_seconds",
    "core_seconds_total",
)
"""What is shown of each row; all of it for a single row."""


@dataclass(frozen=True)
class Entry:
    """What a row is made of: a proposal, the law of its data, what is done, and the number of draws."""

    proposal: str
    law: str
    what: str
    draws: int = 0

    @property
    def name(self) -> str:
        """Name of the row."""
        label = self.proposal + ("" if self.law == LAWS[0] else f"-{self.law}")
        return f"{label}.{self.what}" + (f"@{_short(self.draws)}" if self.draws else "")


def _short(n: int) -> str:
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)


def entries(system: str) -> list[Entry]:
    """Every row of a system that has a proposal, in the order in which to make them."""
    found, budget = [], BUDGETS[system]
    for name, recipe in PROPOSALS.items():
        if not recipe.available or (recipe.systems is not None and system not in recipe.systems):
            continue
        sizes = recipe.draws or budget.draws
        found += [Entry(name, LAWS[0], "training"), Entry(name, LAWS[0], "curve")]
        found += [Entry(name, LAWS[0], what, n) for n in sizes for what in PLAIN]
        found += [Entry(name, LAWS[0], what, n) for n in sizes for what in recipe.samplers]
        if name == PROTOCOL:
            found += [Entry(name, LAWS[0], "replica-exchange")]
            # A single seed: they show what their data lack.
            for law in LAWS[1:]:
                found += [Entry(name, law, "training"), *(Entry(name, law, w, sizes[0]) for w in PLAIN)]
    return found


def _seeded(entry: Entry) -> bool:
    """Whether a row is repeated with other training seeds."""
    plain = entry.what in ("training", "curve", *PLAIN)
    return plain and entry.law == LAWS[0] and entry.proposal in SEEDED


def rows() -> list[RowKey]:
    """Every row: systems from small to large, then ablations and speeds."""
    keys = []
    for system in BUDGETS:
        keys += [RowKey("sbg", system, f"data{suffix}") for suffix in ("", "-contiguous", "-phi-biased")]
        for seed in SEEDS.get(system, (0,)):
            keys += [RowKey("sbg", system, e.name, seed) for e in entries(system) if seed == 0 or _seeded(e)]
    return [*keys, *sbg_ablations.rows(), *sbg_speed.rows(list(BUDGETS))]


def estimate(key: RowKey) -> float:
    """Return the core-seconds that a row is expected to take, shared work of other rows not counted."""
    return sbg_costs.estimate(key.system, key.row, BUDGETS[key.system])


def chosen(keys: Sequence[RowKey], ablation: str | None, named: bool, placed: bool) -> list[RowKey]:
    """Rows of an ablation, or, without one, those that belong to none unless the row was `named`.

    Ablations are on the first system unless one was given (`placed`).

    Raises
    ------
    InputError
        If there is no such ablation.
    """
    if ablation is None:
        return [key for key in keys if named or not sbg_ablations.owns(key)]
    if ablation not in sbg_ablations.NAMES:
        raise InputError(f"ablation: unknown {ablation!r}; choose one of {', '.join(sbg_ablations.NAMES)}")
    found = [key for key in keys if sbg_ablations.belongs(key, ablation)]
    return found if placed else [key for key in found if key.system == sbg_ablations.SYSTEMS[0]]


def beside(systems: Collection[str]) -> Table | None:
    """Return what others have published about some systems."""
    return published.table(systems)


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row, and whatever it needs that is not there yet.

    Raises
    ------
    InputError
        For a row that needs another one first.
    StoppedError
        If `report` asked to stop; the same call continues.
    """
    desk = Desk.of(key.system, BUDGETS[key.system], place)
    desk.folder.mkdir(parents=True, exist_ok=True)
    row = _make(key, desk, place, report)
    return replace(row, budget={**row.budget, "estimated_core_seconds": round(estimate(key))})


def _make(key: RowKey, desk: Desk, place: Place, report: Report) -> Row:
    if sbg_ablations.owns(key):
        return sbg_ablations.run(key, desk, report)
    if sbg_speed.owns(key):
        return sbg_speed.run(key, desk, report)
    if key.row.startswith("data"):
        return _data(key, desk, report)
    entry = next(e for e in entries(key.system) if e.name == key.row)
    if entry.what == "replica-exchange":
        return _exchange(key, entry, desk, place, report)
    fitted = trained(desk, entry.proposal, entry.law, key.seed or 0, report)
    make: dict[str, Callable[..., Row]] = {"training": _training, "curve": _curve}
    return make.get(entry.what, _method)(key, entry, desk, fitted, report)


def _row(key: RowKey, desk: Desk, metrics: dict[str, Metric], notes: dict[str, Any]) -> Row:
    system = {
        "forcefield": desk.system.forcefield,
        "solvent": desk.system.solvent,
        "cutoff": desk.system.cutoff,
        "temperature": desk.system.temperature,
        "certified": desk.certified is not None,
    }
    return Row(key, metrics, {**notes, "system": system}, hardware())


def _costs(fitted: Fitted) -> dict[str, Metric]:
    return {
        "core_seconds_training": Metric(fitted.core_seconds),
        "core_seconds_data": Metric(fitted.data_core_seconds),
    }


def _notes(fitted: Fitted) -> dict[str, Any]:
    return {
        "trained_on": fitted.law,
        "training_steps": fitted.steps,
        "parameters": sum(p.numel() for p in fitted.flow.parameters()),
        "model": dataclasses.asdict(fitted.flow.config),
    }


def _data(key: RowKey, desk: Desk, report: Report) -> Row:
    """Judge training data as if they were a result: which basins they lack, whatever is learned from them."""
    law = key.row.partition("-")[2] or LAWS[0]
    frames = training_data(desk, law, (0.1, 0), report)
    judge = judge_of(desk, report)
    metrics, notes = judged([frames], judge, desk.target(), draws=len(frames))
    folder = desk.folder / ("contiguous" if law == "contiguous" else "data")
    metrics |= {"frames": Metric(len(frames)), "core_seconds": Metric(spent_in(folder))}
    return _row(key, desk, metrics, {**notes, "law": law, "statistics": frames.provenance["statistics"]})


def _training(key: RowKey, entry: Entry, desk: Desk, fitted: Fitted, report: Report) -> Row:
    """Report what training has cost and given, on frames of the independent reference."""
    unseen = unseen_frames(desk, fitted, report)
    flow = fitted.flow
    with one_thread():
        forward = forward_ess(flow, desk.target(), unseen)
        metrics = {
            "nll": shape_nll(flow, unseen),
            "forward_ess_fraction": Metric(forward.fraction),
            "forward_ess_fraction_covered": Metric(forward.covered),
            "missed_share": Metric(forward.missed),
            **_costs(fitted),
            "steps": Metric(fitted.steps),
        }
        if fitted.recipe.cartesian:
            few = fitted.recipe.draws is not None
            found = orientation_ess(flow, 32 if few else 256, 8 if few else 32)
            metrics["orientation_ess_fraction"] = Metric(*found)
    return _row(key, desk, metrics, {**_notes(fitted), "unseen_frames": len(unseen)})


def _curve(key: RowKey, entry: Entry, desk: Desk, fitted: Fitted, report: Report) -> Row:
    metrics, notes = curve(desk, fitted, min(fitted.recipe.draws or desk.budget.draws), report)
    return _row(key, desk, metrics, {**_notes(fitted), **notes})


def _method(key: RowKey, entry: Entry, desk: Desk, fitted: Fitted, report: Report) -> Row:
    """Draw, weight, judge."""
    sizes = fitted.recipe.draws or desk.budget.draws
    repeats = desk.budget.seeds_of(entry.what, entry.draws, sizes)
    drawn = draw_by(desk, fitted, "snis" if entry.what in PLAIN else entry.what, entry.draws, repeats, report)
    judge, target = judge_of(desk, report), desk.target()
    metrics, notes = judged(drawn.ensembles, judge, target, draws=entry.draws, weighted=entry.what != "proposal")
    total = drawn.core_seconds + fitted.core_seconds + fitted.data_core_seconds
    metrics |= {
        "energy_calls": Metric(drawn.energy_calls),
        "core_seconds": Metric(drawn.core_seconds),
        **_costs(fitted),
        "core_seconds_total": Metric(total),
        **_round_trip(fitted, drawn.ensembles[0].positions[:256]),
    }
    first = drawn.ensembles[0].provenance
    notes |= {"draws": entry.draws, "settings": drawn.settings, "exact": first.get("exact", True)}
    if "clipping" in first:
        notes["clipping"] = first["clipping"]
    return _row(key, desk, metrics, {**notes, **_notes(fitted)})


def _round_trip(fitted: Fitted, positions: Any) -> dict[str, Metric]:
    """Largest error of coding and decoding, in the units of the network, for models that know it."""
    import torch

    measure = getattr(fitted.flow, "round_trip_error", None)
    if measure is None:
        return {}
    with one_thread():
        return {"round_trip_error": Metric(float(measure(torch.from_numpy(positions).double()).max()))}


def _exchange(key: RowKey, entry: Entry, desk: Desk, place: Place, report: Report) -> Row:
    """Replica exchange for as many core-seconds as data, training and the largest importance sampling took."""
    sizes = PROPOSALS[entry.proposal].draws or desk.budget.draws
    needed = RowKey("sbg", key.system, Entry(entry.proposal, entry.law, "snis", max(sizes)).name, key.seed)
    if not needed.path(place.results).exists():
        raise InputError(f"{key.system}: no row {needed.row} whose cost could be spent; run {needed.command}")
    cost = read_row(needed.path(place.results)).metrics["core_seconds_total"].value or 0.0
    frames = equal_cost(desk, cost, f"{entry.proposal}.seed{key.seed}", report)
    metrics, notes = judged([frames], judge_of(desk, report), desk.target(), draws=len(frames))
    statistics = frames.provenance["statistics"]
    spent = spent_in(desk.folder / f"equal-cost-{entry.proposal}.seed{key.seed}")
    steps = statistics["aggregate_ns"] * 1000 / frames.provenance["settings"]["timestep"]
    metrics |= {
        "energy_calls": Metric(steps),
        "core_seconds": Metric(spent),
        "core_seconds_total": Metric(spent),
        "core_seconds_allowed": Metric(cost),
        "frames": Metric(len(frames)),
    }
    return _row(key, desk, metrics, {**notes, "spends_the_cost_of": needed.row, "statistics": statistics})
