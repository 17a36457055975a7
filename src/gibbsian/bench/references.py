"""Table `references`: replica exchange of several seeds, continuous runs, and the references made of them.

Rows of a system, in order: `exchange` with each seed, `continuous` (single-temperature runs for the slow modes), and
`certified`, which combines the others and writes the reference file. Simulations lie in folders beside the results
and continue where they were stopped.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gibbsian.bench.account import metered, spent_in
from gibbsian.bench.certify import certify, tica_of, tica_out_of_sample
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey, read_row
from gibbsian.bench.tables import Place
from gibbsian.chem.library import built_in
from gibbsian.chem.system import System
from gibbsian.dynamics.collect import load_simulation
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.simulate import simulate
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent

SEEDS = (0, 1, 2)
"""Independent replica-exchange simulations behind a reference."""

CONVERGED = 0.05
"""Largest error, in kT, of a converged reference; the cost of one is extrapolated with error^-2."""


@dataclass(frozen=True)
class Budget:
    """What a reference costs.

    Attributes
    ----------
    ns
        Aggregate replica-exchange dynamics of one seed, all walkers together, equilibration not counted.
    ladders, t_max
        Independent ladders, and their highest temperature in K.
    frame_ps
        Time between frames, also of the continuous runs.
    runs, run_ns
        Continuous runs at the system's temperature, and the length of each.
    lag_ps
        Lag of the slow modes.
    groups, start_steps, timestep, start_temperature, start_structure
        As in `ExchangeSettings`; 0.002 ps biases rare basins of some force fields by more than a reference may err.
    """

    ns: float
    ladders: int
    t_max: float
    frame_ps: float
    runs: int
    run_ns: float
    lag_ps: float
    groups: int = 2
    start_steps: int = 5_000
    timestep: float = ExchangeSettings().timestep
    start_temperature: float = ExchangeSettings().start_temperature
    start_structure: float = ExchangeSettings().start_structure

    def exchange(self, system: System, seed: int) -> ExchangeSettings:
        """Return the settings of one seed; a tenth more is spent on equilibration."""
        shape = ExchangeSettings(t_max=self.t_max, ladders=self.ladders, groups=self.groups).resolved(system)
        walkers = self.ladders * len(shape.temperatures or ())
        return self._settings(system, shape.temperatures, self.ladders, self.ns / walkers, seed)

    def continuous(self, system: System, seed: int) -> ExchangeSettings:
        """Return the settings of the continuous runs: ladders of one temperature."""
        return self._settings(system, (system.temperature,), self.runs, self.run_ns, seed)

    def _settings(
        self, system: System, temperatures: tuple[float, ...] | None, ladders: int, ns: float, seed: int
    ) -> ExchangeSettings:
        default = ExchangeSettings()
        exchange_every = round(default.exchange_every * default.timestep / self.timestep)
        frame = _multiple(self.frame_ps / self.timestep, exchange_every)
        steps = _multiple(1000 * ns / self.timestep, frame)
        return ExchangeSettings(
            timestep=self.timestep,
            exchange_every=exchange_every,
            temperatures=temperatures,
            ladders=ladders,
            groups=self.groups,
            steps=steps,
            equilibration=_multiple(steps / 10, frame),
            save_every=frame,
            shard=max(1, 400 // system.n_atoms),
            start_steps=self.start_steps,
            start_temperature=self.start_temperature,
            start_structure=self.start_structure,
            seed=seed,
        )


DENSE = Budget(ns=400, ladders=48, t_max=700, frame_ps=0.4, runs=32, run_ns=2, lag_ps=10)
"""Of the data of a flow of a capped peptide: maximum likelihood learns rarer frames by heart."""

BUDGETS = {
    "ACE-ALA-NME": Budget(ns=400, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=10),
    "ACE-ALA-NME@amber96": Budget(
        ns=400, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=10, timestep=0.001
    ),
    "AAA": Budget(ns=400, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=20),
    "ACE-AAA-NME": Budget(ns=400, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=20),
    "ACE-AAA-NME@amber96": Budget(ns=400, ladders=48, t_max=700, frame_ps=2, runs=32, run_ns=2, lag_ps=20),
    "ACE-AAAAA-NME@amber96": Budget(ns=30, ladders=16, t_max=700, frame_ps=2, runs=32, run_ns=0.5, lag_ps=20),
    "AAAAAA": Budget(ns=30, ladders=16, t_max=700, frame_ps=2, runs=32, run_ns=0.5, lag_ps=20),
    "ELIL@amber96": Budget(ns=30, ladders=16, t_max=700, frame_ps=2, runs=32, run_ns=0.5, lag_ps=20),
    "chignolin": Budget(ns=10, ladders=4, t_max=600, frame_ps=2, runs=32, run_ns=0.1, lag_ps=10),
}
"""Systems that have references, and what each costs."""


def rows() -> list[RowKey]:
    """Every row of every system; those that others are made of come first."""
    keys = []
    for system in BUDGETS:
        keys += [RowKey("references", system, "exchange", seed) for seed in SEEDS]
        keys += [RowKey("references", system, "continuous", 0), RowKey("references", system, "certified")]
    return keys


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row.

    Raises
    ------
    InputError
        For `certified`, if a row or simulation that it needs is missing.
    StoppedError
        If `report` asked to stop; the same call continues.
    """
    system, budget = built_in(key.system), BUDGETS[key.system]
    if key.row == "certified":
        return _certified(key, system, budget, place)
    settings = getattr(budget, key.row)(system, key.seed)
    folder = _folder(key, place)
    with metered(folder):
        ensemble = simulate(system, settings, folder, report=report)
        metrics = _exchange(ensemble) if key.row == "exchange" else _continuous(ensemble, budget)
    statistics = ensemble.provenance["statistics"]
    metrics |= {
        "frames": Metric(len(ensemble)),
        "aggregate_ns": Metric(statistics["aggregate_ns"]),
        "statistical_inefficiency_ps": Metric(statistics["statistical_inefficiency_ps"]),
        "resets": Metric(statistics["resets"]),
        "core_seconds": Metric(spent_in(folder)),
    }
    spent = dataclasses.asdict(settings.resolved(system))
    return Row(key, metrics, {**spent, "temperatures": list(spent["temperatures"])}, hardware())


def _exchange(ensemble: Ensemble) -> dict[str, Metric]:
    statistics = ensemble.provenance["statistics"]
    metrics = {}
    for name, mask in basin_masks(ensemble.topology, ensemble.positions).items():
        metrics[f"free_energy {name}"] = Metric(*ensemble.free_energy(mask))
        metrics[f"probability {name}"] = Metric(*ensemble.expectation(mask))
    accepted = statistics["acceptance"]
    return {
        **metrics,
        "ess": Metric(ensemble.ess),
        "acceptance": Metric(float(np.mean(accepted)) if accepted else None),
        "lowest_acceptance": Metric(min(accepted, default=None)),
        "round_trips": Metric(statistics["round_trips"]),
    }


def _continuous(ensemble: Ensemble, budget: Budget) -> dict[str, Metric]:
    tica, lag_ps = tica_of(ensemble, budget.lag_ps)
    frame_ps = lag_ps / tica.lag
    others = tica_out_of_sample(ensemble, budget.lag_ps)
    metrics = {}
    figures = zip(tica.eigenvalues, others, tica.timescales, strict=True)
    for k, (eigenvalue, other, time) in enumerate(figures, start=1):
        metrics[f"tica_eigenvalue_{k}"] = Metric(float(eigenvalue), abs(float(eigenvalue - other)))
        metrics[f"tica_timescale_{k}_ps"] = Metric(float(time) * frame_ps)
    return metrics


def _certified(key: RowKey, system: System, budget: Budget, place: Place) -> Row:
    """Combine the seeds, write the reference file, and report its basins."""
    keys = [RowKey("references", key.system, "exchange", seed) for seed in SEEDS]
    slow = RowKey("references", key.system, "continuous", 0)
    for needed in (*keys, slow):
        if not needed.path(place.results).exists() or not (_folder(needed, place) / "manifest.json").exists():
            raise InputError(f"{key.system}: no finished {needed.row} row, seed {needed.seed}; run {needed.command}")
    rows = [read_row(k.path(place.results)) for k in keys]
    reference = certify(
        key.system,
        system.key,
        rows,
        (load_simulation(_folder(k, place), system) for k in keys),
        load_simulation(_folder(slow, place), system),
        budget.lag_ps,
    )
    path = reference.save(place.references)
    metrics = {}
    for basin in reference.basins:
        metrics[f"free_energy {basin.name}"] = Metric(*basin.free_energy)
        metrics[f"probability {basin.name}"] = Metric(*basin.probability)
    error = max((basin.free_energy.error for basin in reference.basins if basin.gated), default=math.nan)
    spent = sum(row.metrics["core_seconds"].value or 0.0 for row in rows)
    metrics["largest_gated_error"] = Metric(error)
    metrics["core_seconds"] = Metric(spent)
    metrics["core_seconds_if_converged"] = Metric(spent * (error / CONVERGED) ** 2)
    return Row(key, metrics, {"seeds": list(SEEDS), "file": path.name}, hardware())


def _folder(key: RowKey, place: Place) -> Path:
    return key.path(place.work).with_suffix("")


def _multiple(value: float, of: int) -> int:
    """Nearest positive multiple."""
    return max(1, round(value / of)) * of
