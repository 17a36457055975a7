"""Who runs the groups of ladders: a process for each, or this one for all.

Python threads would share one core, because small tensor operations hold the interpreter most of the time. Processes
are started by command, not through `multiprocessing`, so that a script without a main guard can simulate. They end
with the one that started them, whatever ends it: their input closes.
"""

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol

import torch

from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings, advance, begin, make_group, no_frames
from gibbsian.dynamics.ladder import Swaps
from gibbsian.dynamics.shards import group_folder, next_checkpoint, read_checkpoint, write_chunk
from gibbsian.errors import GibbsianError
from gibbsian.potentials.base import Potential


@dataclass(frozen=True)
class Progress:
    """How far a group is."""

    step: int
    resets: int
    swaps: Swaps


class Member(Protocol):
    """Advances one group."""

    def advance(self, goal: int) -> Future[Progress]:
        """Go to the next checkpoint, but not beyond step `goal`, and save it."""
        ...


class Steps(Protocol):
    """Work that goes from checkpoint to checkpoint."""

    def step(self, goal: int) -> Progress:
        """Go to the next checkpoint, but not beyond step `goal`, and save it."""
        ...


class Job(Protocol):
    """What a process must know to do work; it can be pickled."""

    def begin(self) -> Steps:
        """Continue the work where its files end."""
        ...


@dataclass(frozen=True)
class Order:
    """What a process must know to run a group."""

    folder: Path
    system: System
    settings: ExchangeSettings
    index: int
    device: str

    def begin(self) -> "GroupRun":
        """Continue the group from its folder."""
        return GroupRun(self)


class GroupRun:
    """One group with its engine, continuing from its folder.

    Raises
    ------
    InputError
        If its checkpoint is damaged.
    """

    def __init__(self, order: Order, potential: Potential | None = None) -> None:
        if potential is None:
            from gibbsian.potentials import potential as make_potential
            from gibbsian.potentials.compiled import usable_cores

            threads = max(1, usable_cores() // order.settings.groups)
            potential = make_potential(order.system, dtype=torch.float32, device=order.device, threads=threads)
        self._order = order
        self._folder = group_folder(order.folder, order.index)
        self._group = make_group(order.system, order.settings, order.index, potential, order.device)
        saved = read_checkpoint(self._folder, order.settings.seed, order.index, order.device)
        self._state, self._shards = saved or (None, 0)

    def step(self, goal: int) -> Progress:
        """Make and save the start structures, or the next chunk."""
        state, settings = self._state, self._order.settings
        if state is None:
            state = begin(self._group, self._order.system, self._order.index, self._order.device)
            write_chunk(self._folder, state, no_frames(state.good_x), 0)
        elif state.step < goal:
            chunk = settings.save_every * (settings.shard or 1)
            end = min(next_checkpoint(state.step, settings.equilibration, chunk), goal)
            state, frames = advance(self._group, state, (end - state.step) // settings.exchange_every)
            self._shards = write_chunk(self._folder, state, frames, self._shards)
        self._state = state
        return Progress(state.step, state.resets, state.swaps)


class Local:
    """Runs a group in this process."""

    def __init__(self, order: Order, potential: Potential | None) -> None:
        self._run = GroupRun(order, potential)

    def advance(self, goal: int) -> Future[Progress]:
        """Do the work before returning."""
        future: Future[Progress] = Future()
        future.set_result(self._run.step(goal))
        return future


class Remote:
    """Does a job in a process of its own; orders may be given before earlier ones are done."""

    def __init__(self, job: Job, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._pending: list[Future[Progress]] = []
        # One core each: two levels of threads on few cores are slower, and the kernels then take larger blocks.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "from gibbsian.dynamics.crew import serve; serve()"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        self._send(job)

    def advance(self, goal: int) -> Future[Progress]:
        """Order the work and return at once."""
        self._send(goal)
        answer = self._pool.submit(self._receive)
        self._pending = [*(future for future in self._pending if not future.done()), answer]
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        wait(self._pending)  # nobody else may read from the pipe that is closed now
        self._process.communicate()

    def _send(self, content: Any) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(content, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # `_receive` reports the dead process

    def _receive(self) -> Progress:
        assert self._process.stdout is not None
        try:
            answer = pickle.load(self._process.stdout)
        except EOFError as error:
            raise GibbsianError(
                f"simulation process ended unexpectedly (exit code {self._process.wait()}); the same command continues"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def serve() -> None:
    """Do one job at the command of the process at the other end of the pipes, and end with it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    torch.set_num_threads(1)
    commands: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, commands), daemon=True).start()
    work: Steps | None = None
    while True:
        received = commands.get()
        try:
            if work is None:
                work = received.begin()
                continue
            answer: Progress | Exception = work.step(received)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


def _listen(pipe: BinaryIO, commands: "SimpleQueue[Any]") -> None:
    """Queue what comes through the pipe; when it closes, end the process in the middle of its work."""
    while True:
        try:
            commands.put(pickle.load(pipe))
        except (EOFError, pickle.UnpicklingError):
            os._exit(0)  # files are complete at any moment
        except Exception:
            traceback.print_exc()
            os._exit(1)


@contextmanager
def crew(
    folder: Path, system: System, settings: ExchangeSettings, potential: Potential | None, device: str
) -> Iterator[list[Member]]:
    """One member for each group, gone at the end."""
    orders = [Order(folder, system, settings, index, device) for index in range(settings.groups)]
    if potential is not None or device != "cpu":
        yield [Local(order, potential) for order in orders]
        return
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(settings.groups))
        members = [Remote(order, pool) for order in orders]
        for member in members:
            stack.callback(member.close)
        yield list(members)
