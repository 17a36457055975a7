"""The processes of one run, as torchrun starts them; with one process everything here does nothing.

All processes hold the same numbers and do the same steps; heavy work is divided and its results are put together by the
functions below. Each of them must be called by all processes in the same order.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gibbsian.errors import GibbsianError, StoppedError
from gibbsian.parallel.launch import launched
from gibbsian.progress import Report

T = TypeVar("T")
PATIENCE = timedelta(days=100)
"""The others wait for the first process as long as its work takes."""


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started: gloo between CPUs, nccl between CUDA devices, one for each process.

    Termination signals, which torchrun hands to all processes, are left to the first one: all stop where it stops.
    """
    if launched() == 1 or size() > 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    if not is_first():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    try:
        yield
        # One that leaves while the others still listen may abort in the threads of gloo.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def total(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes, without gradient."""
    if size() == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


def collect(value: T) -> list[T]:
    """Return the values of all processes, in their order; anything that can be pickled."""
    if size() == 1:
        return [value]
    values: list[T | None] = [None] * size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


def my_rows(n: int) -> slice:
    """Return this process's part of `n` rows: consecutive, and as many as the others have, or one more."""
    start, stop = (n * k // size() for k in (rank(), rank() + 1))
    return slice(start, stop)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of all parameters by their sums over the processes, in one message."""
    if size() == 1:
        return
    learnt = [parameter for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in learnt if parameter.grad is not None])
    dist.all_reduce(flat)
    for parameter, part in zip(learnt, flat.split([p.numel() for p in learnt]), strict=True):
        parameter.grad = part.view_as(parameter)


def first_does(work: Callable[[], T]) -> T:
    """Let the first process do something while the others wait; all get its result, or fail as it does."""
    if size() == 1:
        return work()
    result: T | None = None
    problem: BaseException | None = None
    if is_first():
        try:
            result = work()
        except Exception as error:
            problem = error
    known = problem if isinstance(problem, GibbsianError) or problem is None else StoppedError("process 0 failed")
    found, failure = collect((result, known))[0]
    if problem is not None:
        raise problem
    if failure is not None:
        raise failure
    return cast("T", found)


def in_step(report: Report) -> Report:
    """Let the first process report; all stop where it stops."""
    if size() == 1:
        return report

    def shared(done: float, total: float, /, **figures: float | str) -> None:
        first_does(lambda: report(done, total, **figures))

    return shared
