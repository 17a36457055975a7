"""Table `engine`: conformations per second with energies and forces, beside OpenMM on the same cores.

The contenders take turns in short repeats, so that whatever else the machine does hits all of them alike; the figures
are medians over the rounds, and a ratio is the median of the ratios within each round.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.systems import ENGINE
from gibbsian.bench.tables import Place
from gibbsian.chem.system import System
from gibbsian.kernels import is_built
from gibbsian.potentials import potential
from gibbsian.potentials.base import Potential
from gibbsian.potentials.compiled import usable_cores
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.potentials.openmm_best import with_builtin_born
from gibbsian.potentials.triton import has_triton
from gibbsian.progress import Report, silent

_PRECISIONS = {
    "torch-float32": ("torch", torch.float32),
    "compiled-float32": ("compiled", torch.float32),
    "compiled-float64": ("compiled", torch.float64),
    "triton-float32": ("triton", torch.float32),
}
_PLATFORMS = {"cpu": ("Reference", "CPU"), "cuda": ("CUDA",)}


@dataclass(frozen=True)
class Budget:
    """How much is measured.

    Attributes
    ----------
    rounds
        Turns of every contender.
    seconds
        Aim for the length of one turn; the number of conformations follows from a trial.
    most
        Largest batch; faster engines repeat it.
    noise
        Standard deviation of the displacements that make conformations of the system's positions, nm.
    seed
        Of the displacements.
    """

    rounds: int = 5
    seconds: float = 1.0
    most: int = 65_536
    noise: float = 0.005
    seed: int = 0


def rows() -> list[RowKey]:
    """Every system with every engine and precision that is there."""
    there = {"compiled": is_built(), "triton": torch.cuda.is_available() and has_triton()}
    offered = [name for name, (engine, _) in _PRECISIONS.items() if there.get(engine, True)]
    return [RowKey("engine", system, row) for system in ENGINE for row in offered]


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Measure one row on all cores."""
    return measure(key, ENGINE[key.system].build(), report=report)


def measure(
    key: RowKey, system: System, budget: Budget | None = None, workers: int | None = None, report: Report = silent
) -> Row:
    """Measure an engine and OpenMM side by side.

    Parameters
    ----------
    key
        Its row is the engine and precision.
    system
        What is evaluated.
    budget
        See `Budget`.
    workers
        OpenMM processes; all cores by default.
    report
        Called after each round.

    Returns
    -------
    Row with `rate` (conformations/s), `openmm_best_rate`, `openmm_shipped_rate`, `ratio_best` and `ratio_shipped`;
    the error of each is half its range over the rounds.
    """
    budget, n_cores = budget or Budget(), usable_cores()
    name, dtype = _PRECISIONS[key.row]
    with ExitStack() as stack:
        device = "cuda" if name == "triton" else "cpu"
        opponents = _opponents(system, n_cores if workers is None else workers, _PLATFORMS[device], stack)
        engine = potential(system, name, dtype, device)
        threads = n_cores
        if name == "torch":  # its own threads do not always pay
            trial = _conformations(system, 64, dtype, budget)
            threads = min((1, n_cores), key=lambda n: _seconds_with(n, engine, trial))
        stack.enter_context(_threads(threads))
        engines = {"engine": engine, **{k: o.potential for k, o in opponents.items()}}
        places = {k: device if k == "engine" else "cpu" for k in engines}
        turns = {k: _Turn.sized(system, e, dtype, budget, places[k]) for k, e in engines.items()}
        seconds: dict[str, list[float]] = {k: [] for k in turns}
        for done in range(1, budget.rounds + 1):
            for k, turn in turns.items():
                seconds[k].append(turn.seconds())
            report(done, budget.rounds, rate=turns["engine"].n / seconds["engine"][-1])
    rates = {k: [turn.n / t for t in seconds[k]] for k, turn in turns.items()}
    spent = {
        **asdict(budget),
        "threads": threads,
        "workers": n_cores if workers is None else workers,
        "conformations": {k: turn.n for k, turn in turns.items()},
        "openmm": {k: o.what for k, o in opponents.items()},
        "n_atoms": system.n_atoms,
    }
    return Row(key, _metrics(rates), spent, hardware())


def _metrics(rates: Mapping[str, Sequence[float]]) -> dict[str, Metric]:
    def over(name: str) -> Metric:
        return _median([a / b for a, b in zip(rates["engine"], rates[name], strict=True)])

    best = "best" if "best" in rates else "shipped"
    return {
        "rate": _median(rates["engine"]),
        "openmm_best_rate": _median(rates[best]),
        "openmm_shipped_rate": _median(rates["shipped"]),
        "ratio_best": over(best),
        "ratio_shipped": over("shipped"),
    }


def _median(values: Sequence[float]) -> Metric:
    return Metric(median(values), (max(values) - min(values)) / 2)


@dataclass(frozen=True, eq=False)
class _Opponent:
    """OpenMM in one form: its potential, and in words which force on which platform."""

    potential: OpenMMPotential
    what: str


def _opponents(system: System, workers: int, platforms: Sequence[str], stack: ExitStack) -> dict[str, _Opponent]:
    """Return OpenMM as shipped on the best of some platforms, and at its best where that is something else."""
    forms: dict[str, Any] = {"as shipped": system.openmm_system}
    swapped = with_builtin_born(system)
    if swapped is not None:
        forms["GBSAOBCForce"] = swapped
    trials: dict[tuple[str, str], float] = {}
    for form, openmm_system in forms.items():
        for platform in platforms:
            trials[form, platform] = _trial(OpenMMPotential(openmm_system, 1, platform), system)

    def opponent(form: str, platform: str) -> _Opponent:
        made = stack.enter_context(OpenMMPotential(forms[form], workers, platform))
        return _Opponent(made, f"{form}, {platform} platform, {workers} single-threaded processes")

    shipped = min((t for t in trials if t[0] == "as shipped"), key=trials.__getitem__)
    best = min(trials, key=trials.__getitem__)
    found = {"shipped": opponent(*shipped)}
    if best != shipped:
        found["best"] = opponent(*best)
    return found


def _trial(engine: OpenMMPotential, system: System) -> float:
    """Seconds of one conformation on one core, the best of three."""
    x = torch.from_numpy(system.positions)[None]
    engine.energy_and_force(x)
    return min(_timed(engine, x) for _ in range(3))


@dataclass(frozen=True, eq=False)
class _Turn:
    """An engine with the conformations of one turn."""

    engine: Potential
    x: Tensor
    repeats: int

    @property
    def n(self) -> int:
        """Conformations of a turn."""
        return len(self.x) * self.repeats

    def seconds(self) -> float:
        """Take the turn."""
        began = time.perf_counter()
        for _ in range(self.repeats):
            self.engine.energy_and_force(self.x)
        _wait(self.x)
        return time.perf_counter() - began

    @classmethod
    def sized(cls, system: System, engine: Potential, dtype: torch.dtype, budget: Budget, device: str) -> "_Turn":
        """Find the batch that takes about the time wanted, by batches that grow; the first one also warms up."""
        # OpenMM's pool of processes starts at 64 conformations.
        n = 64
        x = _conformations(system, n, dtype, budget).to(device)
        engine.energy_and_force(x)
        while (spent := _timed(engine, x)) < budget.seconds / 4 and n < budget.most:
            n = min(4 * n, budget.most)
            x = _conformations(system, n, dtype, budget).to(device)
        wanted = n * budget.seconds / spent
        if wanted < budget.most:
            n = max(64, int(wanted))
            return cls(engine, _conformations(system, n, dtype, budget).to(device), 1)
        return cls(engine, x, max(1, round(wanted / n)))


def _timed(engine: Potential, x: Tensor) -> float:
    began = time.perf_counter()
    engine.energy_and_force(x)
    _wait(x)
    return time.perf_counter() - began


def _wait(x: Tensor) -> None:
    """Wait for the device of `x`, which may still be at work."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _conformations(system: System, n: int, dtype: torch.dtype, budget: Budget) -> Tensor:
    """Draw `n` conformations around the system's own, in the engine's precision."""
    noise = np.random.default_rng(budget.seed).normal(size=(n, system.n_atoms, 3))
    return torch.from_numpy(system.positions + budget.noise * noise).to(dtype)


def _seconds_with(threads: int, engine: Potential, x: Tensor) -> float:
    """Seconds of a small batch with so many threads of torch."""
    with _threads(threads):
        engine.energy_and_force(x)
        return min(_timed(engine, x) for _ in range(3))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
