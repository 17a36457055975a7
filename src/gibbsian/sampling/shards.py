"""Pieces of a computation: divided over the processes of a run, and cut until they fit the memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from gibbsian.errors import OutOfMemoryError
from gibbsian.parallel.group import collect, rank, size

T = TypeVar("T")
K = TypeVar("K")


def in_shards(pieces: Sequence[K], work: Callable[[K], T]) -> list[T]:
    """Do `work` on each piece and return the results in the order of the pieces, on every process.

    A piece is done by one process. Where its random numbers are keyed by the piece and not by what came before, the
    results do not depend on the number of processes.
    """
    mine = [work(piece) for piece in pieces[rank() :: size()]]
    if size() == 1:
        return mine
    everyones = collect(mine)
    return [everyones[k % size()][k // size()] for k in range(len(pieces))]


def within_memory(n: int, work: Callable[[slice], T], what: str) -> list[T]:
    """Do `work` on `n` conformations at once, or anew in batches that are halved until they fit.

    Random numbers should be keyed by the start of the batch; then only what did not fit differs.

    Raises
    ------
    OutOfMemoryError
        If not even one conformation fits; `what` names the method.
    """
    batch = n
    while True:
        done = _attempt(n, batch, work)
        if done is not None:
            return done
        # Not in the handler: the exception holds the frames, and with them the memory, of what failed.
        if batch == 1:
            raise OutOfMemoryError(
                f"{what}: one conformation does not fit into memory; use a smaller model or a larger machine"
            )
        batch = (batch + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _attempt(n: int, batch: int, work: Callable[[slice], T]) -> list[T] | None:
    try:
        return [work(slice(start, min(start + batch, n))) for start in range(0, n, batch)]
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            return None
        raise


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
