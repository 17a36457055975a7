"""Table `split-flow`: the flow of Kim et al. (arXiv 2401.04246) by stages of training, beside plain couplings.

Rows of a system: ``data``, the simulations themselves; a row for each of `VARIANTS`; ``replica-exchange`` at the cost
of the dearest of them. Conformations generated with frozen coordinates at their mean are judged as the paper judges
them; completed ones have exact weights for the unconstrained ensemble. Nothing is judged by what it has seen.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gibbsian.bench import split_flow_figures as figures_of
from gibbsian.bench.account import spent_in
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey, read_row
from gibbsian.bench.sbg_methods import drawing
from gibbsian.bench.sbg_work import Desk, data, equal_cost, reference
from gibbsian.bench.split_flow_figures import figures as figures
from gibbsian.bench.split_flow_training import (
    SIZES,
    VARIANTS,
    Size,
    calls_of,
    cost_of,
    desk_of,
    exchange_desk_of,
    folder_of,
    trained,
)
from gibbsian.bench.tables import Place
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.base import Proposal
from gibbsian.models.slice import SliceProposal
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis

COLUMNS = (
    "nll_free",
    "ess_fraction",
    "k_hat",
    "forward_ess_fraction",
    "ess_fraction_slice",
    "delta_d_backbone",
    "delta_mean_backbone",
    "energy",
    "energy_median",
    "energy_lower_half",
    "backbone_clashes",
    "clashes",
    "rmsf_difference",
    "basin_error",
    "missed_basins",
    "parameters",
    "core_seconds_training",
)
"""What is shown of each row."""

DATA, EXCHANGE = "data", "replica-exchange"


def rows() -> list[RowKey]:
    """Every row, systems from small to large."""
    keys = []
    for system in SIZES:
        keys += [RowKey("split-flow", system, DATA)]
        keys += [RowKey("split-flow", system, name, 0) for name in VARIANTS]
        keys += [RowKey("split-flow", system, EXCHANGE, 0)]
    return keys


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row, and the simulations and trainings that it needs where they are not there yet.

    Raises
    ------
    InputError
        For replica exchange before any flow.
    StoppedError
        If `report` asked to stop; the same call continues.
    """
    size = SIZES[key.system]
    desk = desk_of(key.system, size, place.work)
    desk.folder.mkdir(parents=True, exist_ok=True)
    if key.row == DATA:
        metrics, notes = _data(desk, size, report)
    elif key.row == EXCHANGE:
        metrics, notes = _exchange(key, desk, size, place, report)
    else:
        metrics, notes = _flow(key, desk, size, report)
    return Row(key, metrics, {**notes, "size": asdict(size), "certified": desk.certified is not None}, hardware())


def _data(desk: Desk, size: Size, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    training, test = data(desk, report), reference(desk, report)
    coordinates = ReducedCoordinates(desk.system.topology, size.model.rotors)
    metrics = figures_of.of_data(desk, training, test, coordinates)
    spent = {name: Metric(spent_in(desk.folder / name)) for name in ("data", "reference")}
    return metrics | {f"core_seconds_{name}": cost for name, cost in spent.items()}, {"frames": len(training)}


def _flow(key: RowKey, desk: Desk, size: Size, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    seed = key.seed or 0
    flow = trained(desk, size, key.row, seed, report)
    test, target = reference(desk, report), desk.target()
    place = folder_of(desk, key.row, seed)
    sliced = _draws(SliceProposal(flow), desk, size, place / "slice", 0, report)
    completed = [_draws(flow, desk, size, place / f"draws.{k}", k, report) for k in range(size.repeats)]
    metrics = figures_of.likelihoods(flow, test, target, size.unseen)
    metrics |= figures_of.weighted(completed, desk) | figures_of.on_slice(sliced) | figures_of.generated(sliced, test)
    metrics |= {
        "parameters": Metric(sum(p.numel() for p in flow.core.parameters())),
        "energy_calls_training": Metric(calls_of(key.row, size)),
        "core_seconds_training": Metric(cost_of(desk, key.row, seed)),
        "core_seconds_data": Metric(spent_in(desk.folder / "data")),
        "core_seconds": Metric(spent_in(place / "draws.0")),
    }
    return metrics, {**figures_of.notes_of(desk, flow), "model": asdict(flow.config), "draws": size.draws}


def _draws(proposal: Proposal, desk: Desk, size: Size, folder: Path, seed: int, report: Report) -> Ensemble:
    """Draw weighted conformations, or read them."""
    system = desk.system
    with drawing(folder):
        return sample_snis(
            proposal,
            desk.target(),
            size.draws,
            topology=system.topology,
            temperature=system.temperature,
            folder=folder,
            seed=seed,
            report=report,
        )


def _exchange(
    key: RowKey, desk: Desk, size: Size, place: Place, report: Report
) -> tuple[dict[str, Metric], dict[str, Any]]:
    made = [
        read_row(other.path(place.results))
        for other in rows()
        if other.system == key.system and other.row in VARIANTS and other.path(place.results).exists()
    ]
    if not made:
        raise InputError(f"{key.system}: no flow has been trained whose cost could be spent; make one of them first")
    cost = max(_total(row) for row in made)
    frames = equal_cost(exchange_desk_of(desk, size), cost, f"seed{key.seed}", report)
    equal = frames.take(np.isfinite(frames.log_w))
    metrics = figures_of.distances(equal, reference(desk, report)) | figures_of.basins([frames], desk)
    metrics |= {"core_seconds_total": Metric(cost)}
    return metrics, {"statistics": frames.provenance["statistics"]}


def _total(row: Row) -> float:
    names = ("core_seconds_training", "core_seconds_data", "core_seconds")
    return sum(row.metrics[name].value or 0.0 for name in names)
