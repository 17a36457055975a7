"""Table `annealing`: flows trained on energies alone beside maximum likelihood and replica exchange.

Rows of a system: ``METHOD.training`` with the effective size against energy calls, ``METHOD.snis@N``, and
``replica-exchange`` at the cost of the dearest method. All train the same spline flow in internal coordinates; methods
without data start from its prior. A method whose steps are refused leaves rows without figures, with the reason.
"""

import json
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.table import Table

from gibbsian.bench import published
from gibbsian.bench.account import spent_in
from gibbsian.bench.annealing_figures import figures as figures
from gibbsian.bench.annealing_methods import METHODS, SIZES, calls_of, trained
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey, read_row
from gibbsian.bench.sbg_methods import draw_by
from gibbsian.bench.sbg_metrics import judge_of, judged
from gibbsian.bench.sbg_training import Fitted
from gibbsian.bench.sbg_work import DATA_SEED, Desk, equal_cost, reference
from gibbsian.bench.tables import Place
from gibbsian.ensemble.draws import thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.comparison import basins_known
from gibbsian.evaluate.cost import Account, time_to
from gibbsian.progress import Report, silent
from gibbsian.sampling.forward import forward_ess
from gibbsian.threads import one_thread
from gibbsian.training.annealing.annealer import LOG, RefusedError
from gibbsian.workflow.fitting import ANNEALING

POINTS = 75
"""Steps of a curve, at least, where there are as many."""
UNSEEN = 5_000
"""Frames of the reference on which flows are judged."""

COLUMNS = (
    "ess_fraction",
    "k_hat",
    "forward_ess_fraction",
    "eubo",
    "log_z",
    "ram_tv_100x100",
    "basin_error",
    "tt01",
    "missed_basins",
    "energy_calls_training",
    "core_seconds_total",
)
"""What is shown of each row."""


EXCHANGE = "replica-exchange"


def beside(systems: Collection[str]) -> Table | None:
    """Return what others have published about the same peptides with flows that are trained on energies."""
    return published.table({name.partition("@")[0] for name in systems}, {"CMT"})


def rows() -> list[RowKey]:
    """Every row, systems from small to large."""
    keys = []
    for system, size in SIZES.items():
        n = size.budget.draws[0] // 1000
        for method in (method for method in METHODS if method not in size.left_out):
            keys += [RowKey("annealing", system, f"{method}.training", 0)]
            keys += [RowKey("annealing", system, f"{method}.snis@{n}k", 0)]
        keys += [RowKey("annealing", system, EXCHANGE, 0)]
    return keys


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row, and whatever it needs that is not there yet.

    Raises
    ------
    InputError
        For replica exchange before any method.
    StoppedError
        If `report` asked to stop; the same call continues.
    """
    size = SIZES[key.system]
    desk = Desk(key.system, size.budget, place.work / "annealing" / key.system)
    desk.folder.mkdir(parents=True, exist_ok=True)
    if key.row == EXCHANGE:
        return _exchange(key, desk, place, report)
    name, _, what = key.row.partition(".")
    about = {"method": asdict(METHODS[name]), "size": asdict(size)}
    try:
        fitted = trained(desk, size, name, key.seed or 0, report)
    except RefusedError as error:
        return _row(key, desk, {}, {**about, "refused": str(error)})
    metrics, notes = _training(desk, fitted, report) if what == "training" else _sampled(desk, fitted, report)
    metrics |= {
        "energy_calls_training": Metric(calls_of(name, size)),
        "core_seconds_training": Metric(fitted.core_seconds),
        "core_seconds_data": Metric(fitted.data_core_seconds),
    }
    return _row(key, desk, metrics, {**notes, **about})


def _training(desk: Desk, fitted: Fitted, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Judge a flow on unseen frames of the reference, and say what its draws were worth on the way.

    ``eubo`` is the mean of -u - log q over frames of the target: above log Z by KL(p | q).
    """
    unseen = thinned(reference(desk, report), UNSEEN)
    target, flow = desk.target(), fitted.flow
    x = torch.from_numpy(unseen.positions).double()
    with one_thread(), torch.no_grad():
        forward = forward_ess(flow, target, unseen)
        bound = (-target.u(x) - flow.log_prob(x).double()).numpy()
    inside = np.isfinite(bound)
    metrics = {
        "eubo": Metric(float(bound[inside].mean()), float(bound[inside].std(ddof=1) / np.sqrt(inside.sum()))),
        "outside": Metric(float(np.mean(~inside))),
        "forward_ess_fraction": Metric(forward.fraction),
        "forward_ess_fraction_covered": Metric(forward.covered),
        "missed_share": Metric(forward.missed),
    }
    return metrics | _curve(fitted), {"unseen_frames": len(unseen)}


def _curve(fitted: Fitted) -> dict[str, Metric]:
    """Effective fraction and log Z of the draws of steps of annealing, the last included, by the calls until then."""
    path = fitted.folder / ANNEALING / LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    metrics = {}
    for line in lines[:: -max(1, len(lines) // POINTS)][::-1]:
        metrics[f"calls {line['calls']}: ess_fraction"] = Metric(line["target_ess"])
        metrics[f"calls {line['calls']}: log_z"] = Metric(line["target_log_z"])
    return metrics


def _sampled(desk: Desk, fitted: Fitted, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    n = desk.budget.draws[0]
    drawn = draw_by(desk, fitted, "snis", n, desk.budget.repeats, report)
    metrics, notes = judged(drawn.ensembles, judge_of(desk, report), desk.target(), draws=n)
    account = Account(fitted.core_seconds + fitted.data_core_seconds, drawn.core_seconds)
    metrics |= {
        "tt01": _time_to(desk, drawn.ensembles[0], account),
        "energy_calls": Metric(drawn.energy_calls),
        "core_seconds": Metric(drawn.core_seconds),
        "core_seconds_total": Metric(account.after(1.0)),
    }
    return metrics, {**notes, "draws": n}


def _exchange(key: RowKey, desk: Desk, place: Place, report: Report) -> Row:
    """Replica exchange for as many core-seconds as the dearest method whose samples are there."""
    done = [
        read_row(other.path(place.results))
        for other in rows()
        if other.system == key.system and ".snis" in other.row and other.path(place.results).exists()
    ]
    made = [row for row in done if "refused" not in row.budget]
    if not made:
        raise InputError(f"{key.system}: no method has samples whose cost could be spent; make one of them first")
    dearest = max(made, key=lambda row: row.metrics["core_seconds_total"].value or 0.0)
    cost = dearest.metrics["core_seconds_total"].value or 0.0
    frames = equal_cost(desk, cost, f"seed{key.seed}", report)
    metrics, notes = judged([frames], judge_of(desk, report), desk.target(), draws=len(frames))
    statistics = frames.provenance["statistics"]
    spent = spent_in(desk.folder / f"equal-cost-seed{key.seed}")
    settings = desk.budget.dynamics.exchange(desk.system, DATA_SEED)
    warm_up = settings.equilibration / (settings.equilibration + settings.steps) * spent_in(desk.folder / "data")
    metrics |= {
        "tt01": _time_to(desk, frames, Account(warm_up, spent - warm_up)),
        "energy_calls_training": Metric(statistics["aggregate_ns"] * 1000 / frames.provenance["settings"]["timestep"]),
        "core_seconds_total": Metric(spent),
    }
    return _row(key, desk, metrics, {**notes, "spends_the_cost_of": dearest.key.row, "statistics": statistics})


def _time_to(desk: Desk, ensemble: Ensemble, account: Account) -> Metric:
    """Core-seconds until every gated basin is known to 0.1 kT; no value where more samples would not lead there."""
    return Metric(time_to(basins_known(ensemble, desk.certified), account))


def _row(key: RowKey, desk: Desk, metrics: dict[str, Metric], notes: dict[str, Any]) -> Row:
    system = desk.system
    about = {"forcefield": system.forcefield, "solvent": system.solvent, "temperature": system.temperature}
    return Row(key, metrics, {**notes, "system": about, "certified": desk.certified is not None}, hardware())
