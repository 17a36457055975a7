import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.simulate import simulate
from gibbsian.dynamics.stream import streamed
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import GibbsianError, InputError

SHORT = ExchangeSettings(
    t_max=600.0,
    n_temperatures=2,
    ladders=4,
    groups=2,
    steps=100,
    equilibration=40,
    exchange_every=10,
    save_every=20,
    shard=2,
    start_steps=20,
    seed=7,
)
WALKERS, FIRST, FRAMES = 8, 5, 3
"""Walkers; frames of each in the finished simulation, which end within a shard, and in a portion."""


@pytest.fixture(scope="module")
def system() -> System:
    return System.from_sequence("ACE-GLY-NME", "amber14", "obc2")


@pytest.fixture(scope="module")
def finished(system: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    simulate(system, SHORT, folder)
    return folder


def portion_of(whole: Ensemble, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and ladders of a portion in a long simulation."""
    at = slice(FIRST + k * FRAMES, FIRST + (k + 1) * FRAMES)
    assert whole.lineage is not None
    n = len(whole) // WALKERS
    x = whole.positions.reshape(WALKERS, n, -1, 3)[:, at]
    return x.reshape(-1, *x.shape[2:]), whole.lineage.reshape(WALKERS, n)[:, at].ravel()


def test_portions_are_those_of_one_long_simulation(system: System, finished: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    whole = simulate(system, replace(SHORT, steps=100 + 3 * FRAMES * 20))
    with streamed(finished, tmp_path, system, FRAMES) as stream:
        stream.order(1)
        first = stream.take(0)
    with streamed(finished, tmp_path, system, FRAMES) as stream:
        again = stream.take(0)
        parts = [first, stream.take(1), stream.take(2)]
    assert np.array_equal(first.positions, again.positions)
    for k, part in enumerate(parts):
        x, lineage = portion_of(whole, k)
        assert np.array_equal(part.positions, x)
        assert np.array_equal(part.lineage, lineage)
        assert part.energy.shape == lineage.shape
    assert before == {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}


def test_a_dead_process_is_told_in_one_line(system: System, finished: Path, tmp_path: Path) -> None:
    def kill() -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    with streamed(finished, tmp_path, system, FRAMES) as stream:
        stream.order(1000)
        kill()
        with pytest.raises(GibbsianError, match=r"ended unexpectedly \(exit code -9\); the same command continues"):
            stream.take(999)


def test_the_process_ends_with_its_parent(finished: Path, tmp_path: Path) -> None:
    script = f"""
import sys, time
from gibbsian.chem.system import System
from gibbsian.dynamics.stream import streamed
system = System.from_sequence("ACE-GLY-NME", "amber14", "obc2")
with streamed({str(finished)!r}, {str(tmp_path)!r}, system, 100000) as stream:
    stream.order(5)
    print("ordered", flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ordered\n"
    (child,) = children(parent.pid)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < end, "the simulation goes on without its parent"
        time.sleep(0.2)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be listed."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_cannot_go_on_is_refused(system: System, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest"), streamed(tmp_path / "none", tmp_path, system, FRAMES):
        pass
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="no simulation that could go on"), streamed(tmp_path, tmp_path, system, 1):
        pass
    place = tmp_path / "stream"
    with streamed(finished, place, system, FRAMES):
        pass
    with pytest.raises(InputError, match="shard 3, not 4"), streamed(finished, place, system, 4):
        pass
