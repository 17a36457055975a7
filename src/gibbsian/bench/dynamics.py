"""Table `dynamics`: replica exchange per core and minute beside OpenMM, and averages at several time steps.

The contenders of a rate take turns, as in the table `engine`. A simulation is stopped at the end of its turn and
continues from its checkpoint at the next one, so that start structures are made once and never counted.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from gibbsian.bench import averages
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.tables import Place
from gibbsian.chem.library import built_in
from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.langevin import repartition
from gibbsian.dynamics.simulate import simulate
from gibbsian.potentials.compiled import usable_cores
from gibbsian.potentials.openmm_dynamics import OpenMMDynamics, Walk, fastest
from gibbsian.progress import Report, silent

SEEDS = (0, 1)
"""Independent repeats of the averages."""


@dataclass(frozen=True)
class Budget:
    """How much of a rate is measured.

    Attributes
    ----------
    rounds, seconds
        Turns of every contender, and the least length of one.
    ladders
        Of the replica exchange; at least one for each core.
    start_steps
        As in `ExchangeSettings`.
    """

    rounds: int = 3
    seconds: float = 3.0
    ladders: int = 96
    start_steps: int = 2_000


BUDGETS = {
    "ACE-ALA-NME": Budget(),
    "AAA": Budget(),
    "AAAAAA": Budget(ladders=48),
    "CLN025": Budget(ladders=16, start_steps=500),
}
"""Systems, and what their rates cost; larger ones have fewer walkers, so that a turn is not over before it began."""


def rows() -> list[RowKey]:
    """Rates of all systems, then the averages of the first."""
    first = next(iter(BUDGETS))
    rates = [RowKey("dynamics", system, "rate") for system in BUDGETS]
    return rates + [RowKey("dynamics", first, "averages", seed) for seed in SEEDS]


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row."""
    system = built_in(key.system)
    if key.row == "averages":
        return averages.measure(key, system, report=report)
    return measure(key, system, BUDGETS[key.system], report=report)


def measure(key: RowKey, system: System, budget: Budget, cores: int | None = None, report: Report = silent) -> Row:
    """Measure replica exchange and OpenMM side by side, on one core and on all.

    Returns
    -------
    Row with aggregate nanoseconds per core and minute, `one_core` and `all_cores`, the same of OpenMM, and the median
    of the ratios within each round; the error of each is half its range over the rounds.
    """
    cores = cores or usable_cores()
    settings = ExchangeSettings(
        ladders=max(budget.ladders, cores), equilibration=0, steps=10**12, start_steps=budget.start_steps
    ).resolved(system)
    masses = repartition(
        system.parameters.masses, system.topology.elements, system.topology.bonds, settings.hydrogen_mass
    )
    walk = Walk(system.temperature, settings.timestep, 1, 1, settings.friction)
    form, steps_per_second = fastest(system, masses, walk)
    walk = replace(walk, every=max(1, int(steps_per_second * budget.seconds)))
    used = {"one_core": 1, "all_cores": cores}
    rates: dict[str, list[float]] = {f"{who}{name}": [] for who in ("", "openmm_") for name in used}
    opponents = {name: OpenMMDynamics(form, n) for name, n in used.items()}
    with TemporaryDirectory() as folder, opponents["all_cores"]:
        # A first walk on each starts the processes.
        list(opponents["all_cores"].run(_copies(system, cores), replace(walk, every=1)))
        for done in range(1, budget.rounds + 1):
            for name, n in used.items():
                grouped = replace(settings, groups=n)
                with _confined(n):
                    rates[name].append(_exchange_rate(system, grouped, Path(folder) / name, budget.seconds) / n)
                rates[f"openmm_{name}"].append(_openmm_rate(system, opponents[name], walk, done) / n)
            report(done, budget.rounds, **{name: round(turns[-1], 2) for name, turns in rates.items()})
    metrics = {name: _median(turns) for name, turns in rates.items()}
    for name in used:
        ratios = [a / b for a, b in zip(rates[name], rates[f"openmm_{name}"], strict=True)]
        metrics[f"ratio_{name}"] = _median(ratios)
    spent = {
        **asdict(budget),
        "unit": "ns per core and minute",
        "cores": cores,
        "temperatures": list(settings.temperatures or ()),
        "walkers": settings.ladders * len(settings.temperatures or ()),
        "timestep": settings.timestep,
        "hydrogen_mass": settings.hydrogen_mass,
        "openmm": form.what,
        "openmm_steps": walk.every,
        "n_atoms": system.n_atoms,
    }
    return Row(key, metrics, spent, hardware())


@contextmanager
def _confined(cores: int) -> Iterator[None]:
    """Keep this process and those that it starts to so many cores, where the operating system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _TurnOver(Exception):  # noqa: N818 (not an error)
    """Ends a simulation at the end of its turn."""


def _exchange_rate(system: System, settings: ExchangeSettings, folder: Path, seconds: float) -> float:
    """Aggregate ns per minute between the first checkpoint of this turn and the first one `seconds` later."""
    seen: list[tuple[float, float]] = []

    def watch(done: float, total: float, /, **figures: float | str) -> None:
        seen.append((time.perf_counter(), done))
        if seen[-1][0] - seen[0][0] >= seconds:
            raise _TurnOver

    with suppress(_TurnOver):
        simulate(system, settings, folder, report=watch)
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) * settings.timestep / 1000 * 60 / (ended - began)


def _openmm_rate(system: System, dynamics: OpenMMDynamics, walk: Walk, seed: int) -> float:
    """Aggregate ns per minute of a walker on each worker, all at the same time."""
    walked = list(dynamics.run(_copies(system, dynamics.workers), walk, seed))
    return sum(walk.every * walk.timestep / 1000 * 60 / w.seconds for w in walked)


def _copies(system: System, n: int) -> NDArray[np.float64]:
    return np.repeat(np.asarray(system.positions, dtype=np.float64)[None], n, axis=0)


def _median(values: list[float]) -> Metric:
    return Metric(median(values), (max(values) - min(values)) / 2)
