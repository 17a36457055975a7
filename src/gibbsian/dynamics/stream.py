"""A simulation that goes on in a process of its own while its frames are used.

It continues a finished replica-exchange simulation, on one core and in a folder of its own, so that the frames are
those of one long simulation and the finished one stays as it is. What arrives is counted in *portions*: the next so
many frames of every walker. Portions and their numbers are reproducible; only when one is there is not, so whoever asks
too early waits.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.chem.system import System
from gibbsian.dynamics.crew import GroupRun, Order, Progress, Remote
from gibbsian.dynamics.exchange import ExchangeSettings, no_frames
from gibbsian.dynamics.manifest import claim, describe, refuse_other, settings_of
from gibbsian.dynamics.shards import (
    existing,
    group_folder,
    opened_checkpoint,
    read_checkpoint,
    read_shards,
    write_chunk,
)
from gibbsian.errors import InputError
from gibbsian.files import read_json

PATIENCE = 2.0
"""Seconds of waiting after which, and then each time, the waiting is told."""


@dataclass(frozen=True, eq=False)
class Portion:
    """Frames of all temperatures, ladder by ladder and walker by walker.

    Attributes
    ----------
    positions, energy, lineage
        (n, n_atoms, 3) nm float32, (n,) kJ/mol, (n,) number of the ladder.
    """

    positions: NDArray[np.float32]
    energy: NDArray[np.float64]
    lineage: NDArray[np.int64]


@dataclass(frozen=True)
class StreamOrder:
    """What the process must know: all groups are run, one after the other, by one thread."""

    folder: Path
    system: System
    settings: ExchangeSettings

    def begin(self) -> "StreamRun":
        """Continue all groups from their folders."""
        return StreamRun(self)


class StreamRun:
    """All groups of a simulation in turn."""

    def __init__(self, order: StreamOrder) -> None:
        from gibbsian.potentials import potential as make_potential

        engine = make_potential(order.system, dtype=torch.float32, device="cpu", threads=1)
        orders = [Order(order.folder, order.system, order.settings, k, "cpu") for k in range(order.settings.groups)]
        self._runs = [GroupRun(each, engine) for each in orders]

    def step(self, goal: int) -> Progress:
        """Take all groups to step `goal`, which is that of their next checkpoint or an earlier one."""
        return [run.step(goal) for run in self._runs][-1]


class Stream:
    """Hands out the portions of a simulation that `streamed` continues.

    Attributes
    ----------
    settings
        Of the simulation as it is continued: what came before counts as equilibration.
    """

    def __init__(self, order: StreamOrder, pool: ThreadPoolExecutor) -> None:
        self.settings = order.settings
        self._order, self._pool = order, pool
        self._remote: Remote | None = None
        self._answers: dict[int, Future[Progress]] = {}
        self._on_disk = min(_shards(group_folder(order.folder, k)) for k in range(order.settings.groups))

    def order(self, n: int) -> None:
        """Have the first `n` portions made, and return at once."""
        chunk = self.settings.save_every * (self.settings.shard or 1)
        for k in range(self._on_disk + len(self._answers), n):
            if self._remote is None:
                self._remote = Remote(self._order, self._pool)
            self._answers[k] = self._remote.advance(self.settings.equilibration + (k + 1) * chunk)

    def take(self, k: int, waiting: Callable[[], None] = lambda: None) -> Portion:
        """Return portion `k`, from 0, after it is made; `waiting` is called now and then until then, and may raise.

        Raises
        ------
        GibbsianError
            If the simulation ended unexpectedly.
        InputError
            If a file is damaged.
        """
        self.order(k + 1)
        while k in self._answers:
            try:
                self._answers[k].result(timeout=PATIENCE)
                break
            except TimeoutError:
                waiting()
        n_levels, ladder = len(self.settings.temperatures or ()), 0
        positions, energies, lineages = [], [], []
        for index, size in enumerate(self.settings.group_sizes()):
            x, energy, _ = read_shards(group_folder(self._order.folder, index), 1, first=k)
            positions.append(x.reshape(-1, *x.shape[2:]))
            energies.append(energy.ravel())
            lineages.append(np.repeat(np.arange(ladder, ladder + size), n_levels * x.shape[1]))
            ladder += size
        return Portion(np.concatenate(positions), np.concatenate(energies), np.concatenate(lineages))

    def close(self) -> None:
        """End the process; the same stream continues where it was."""
        if self._remote is not None:
            self._remote.close()


@contextmanager
def streamed(source: Path | str, folder: Path | str, system: System, frames: int) -> Iterator[Stream]:
    """Continue the simulation in `source` in another folder, by a process that ends with the context, or with this one.

    Parameters
    ----------
    source
        Folder of a finished simulation, which is only read.
    folder
        Where the continuation is kept; the same call continues it.
    system
        The molecule.
    frames
        Of each walker in one portion.

    Raises
    ------
    InputError
        If `source` holds no finished simulation of the system, or `folder` the continuation of another one.
    """
    with existing(folder) as place, ThreadPoolExecutor(1) as pool:
        settings = _continued(Path(source), Path(place), system, frames)
        stream = Stream(StreamOrder(Path(place), system, settings), pool)
        try:
            yield stream
        finally:
            stream.close()


def _continued(source: Path, folder: Path, system: System, frames: int) -> ExchangeSettings:
    """Copy the last state of a simulation, once; return the settings of the continuation."""
    manifest = read_json(source / "manifest.json")
    if "settings" not in manifest:
        raise InputError(f"{source}: holds frames, but no simulation that could go on; simulate, or drop the stream")
    settings = settings_of(manifest)
    refuse_other(source, manifest, describe(system, settings))
    saved = [read_checkpoint(group_folder(source, k), settings.seed, k, "cpu") for k in range(settings.groups)]
    states = [each[0] for each in saved if each is not None]
    end = min((state.step for state in states), default=0)
    if len(states) < settings.groups or end < settings.equilibration + settings.steps:
        raise InputError(f"{source}: the simulation is not finished; continue it first")
    # The grid of frames goes on, because what came before is a whole number of intervals between them.
    settings = replace(settings, equilibration=end, shard=frames)
    claim(folder, describe(system, settings))
    for k, state in enumerate(states):
        if _shards(group_folder(folder, k)) < 0:
            write_chunk(group_folder(folder, k), state, no_frames(state.good_x), 0)
    return settings


def _shards(folder: Path) -> int:
    """Shards of a group that count; -1 where it has no checkpoint."""
    with opened_checkpoint(folder) as saved:
        return -1 if saved is None else saved[1]["shards"]
