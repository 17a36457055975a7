"""From a system to equilibrium data: replica exchange with checkpoints, then MBAR weights."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from gibbsian.chem.system import System
from gibbsian.dynamics.collect import acceptance, load_simulation
from gibbsian.dynamics.exchange import (
    ExchangeSettings,
    Group,
    GroupState,
    advance,
    begin,
    make_group,
    no_frames,
)
from gibbsian.dynamics.manifest import claim
from gibbsian.dynamics.shards import group_folder, read_checkpoint, write_chunk
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.potentials.base import Potential
from gibbsian.progress import Report, silent


def simulate(
    system: System,
    settings: ExchangeSettings | None = None,
    folder: str | Path | None = None,
    potential: Potential | None = None,
    report: Report = silent,
    workers: int | None = None,
    device: str = "cpu",
) -> Ensemble:
    """Run temperature replica exchange (plain Langevin dynamics for one temperature) and weight its frames.

    Frames of all temperatures are kept; MBAR weights lead to the system's temperature. The same call on the
    same folder continues where it was stopped, with the bits of an undisturbed run, and tops up if `steps`
    has grown.

    Parameters
    ----------
    system
        Molecule, force field and temperature.
    settings
        See `ExchangeSettings`.
    folder
        Where shards and checkpoints go; None keeps nothing.
    potential
        Energy engine, indifferent to translation and safe to call from several threads (its counter alone
        may then miss calls); None makes a float32 torch engine for each group.
    report
        Called with walker steps done and to do, ns/day of aggregate dynamics, exchange acceptance, seconds
        left and the number of walkers that blew up, each time all groups have saved a chunk; it may raise
        `StoppedError`.
    workers
        Threads; at most one per group works. None takes the number of cores. The result does not depend on
        it.
    device
        Where the engine made for `potential` = None, and the walkers, live.

    Returns
    -------
    Ensemble at the system's temperature, ladder by ladder and walker by walker, each walker in order of time;
    `lineage` is the ladder. `provenance` has settings and statistics.

    Raises
    ------
    InputError
        If the folder holds a different simulation or a damaged file.
    """
    settings = (settings or ExchangeSettings()).resolved(system)
    with tempfile.TemporaryDirectory() if folder is None else _existing(folder) as place:
        path = Path(place)
        claim(path, system, settings)
        runs = _open_runs(path, system, settings, potential, device)
        with _single_threaded_torch(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            _run(pool.map, runs, system, settings, report)
        return load_simulation(path, system)


@dataclass(eq=False)
class _Run:
    """One group on its way."""

    index: int
    group: Group
    folder: Path
    state: GroupState | None
    shards: int


def _open_runs(
    folder: Path, system: System, settings: ExchangeSettings, potential: Potential | None, device: str
) -> list[_Run]:
    runs = []
    for index in range(settings.groups):
        if potential is None:
            from gibbsian.potentials import potential as make_potential

            engine = make_potential(system, dtype=torch.float32, device=device)
        else:
            engine = potential
        group = make_group(system, settings, index, engine, device)
        place = group_folder(folder, index)
        saved = read_checkpoint(place, settings.seed, index, device)
        runs.append(_Run(index, group, place, *(saved or (None, 0))))
    return runs


def _run(
    each: Callable[..., Iterator[int]],
    runs: list[_Run],
    system: System,
    settings: ExchangeSettings,
    report: Report,
) -> None:
    """Advance all groups chunk by chunk, in step, until each has its frames."""
    goal = settings.equilibration + math.ceil(settings.steps / settings.save_every) * settings.save_every
    walkers = settings.ladders * len(settings.temperatures or ())
    list(each(lambda run: _begin(run, system), [run for run in runs if run.state is None]))
    began = time.perf_counter()
    first = sum(r.state.step for r in runs if r.state) / len(runs)
    while True:
        states = [run.state for run in runs if run.state is not None]
        if all(state.step >= goal for state in states):
            return
        list(each(lambda run: _chunk(run, goal), runs))
        states = [run.state for run in runs if run.state is not None]
        done = sum(state.step for state in states) / len(runs)
        rate = (done - first) / (time.perf_counter() - began)
        report(
            done * walkers,
            goal * walkers,
            ns_per_day=round(rate * walkers * settings.timestep * 86.4, 1),
            acceptance=round(acceptance(states)[0], 3),
            seconds_left=round((goal - done) / rate, 1) if rate else 0.0,
            resets=sum(state.resets for state in states),
        )


def _begin(run: _Run, system: System) -> None:
    """Make the start structures of one group and save them."""
    run.state = begin(run.group, system, run.index, str(run.group.integrator.masses.device))
    write_chunk(run.folder, run.state, no_frames(run.state.good_x), 0)


def _chunk(run: _Run, goal: int) -> None:
    """Advance one group to its next checkpoint and write it."""
    settings = run.group.settings
    if run.state is None or run.state.step >= goal:
        return
    end = min(_next_checkpoint(run.state.step, settings), goal)
    run.state, frames = advance(run.group, run.state, (end - run.state.step) // settings.exchange_every)
    run.shards = write_chunk(run.folder, run.state, frames, run.shards)


def _next_checkpoint(step: int, settings: ExchangeSettings) -> int:
    """Checkpoints follow a fixed grid in steps, with one at the end of equilibration."""
    chunk = settings.save_every * (settings.shard or 1)
    if step < settings.equilibration:
        return min(step + chunk, settings.equilibration)
    kept = step - settings.equilibration
    return settings.equilibration + (kept // chunk + 1) * chunk


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    """Keep threads for groups: two levels of them are slower, and sums would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _existing(folder: str | Path) -> Iterator[str]:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make the folder ({error.strerror}); choose another") from error
    yield str(folder)
