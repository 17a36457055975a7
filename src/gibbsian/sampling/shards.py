"""Pieces of a computation, divided over the processes of a run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

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
