"""Batches in chunks that fit the memory."""

from collections.abc import Callable

import torch

from gibbsian.errors import OutOfMemoryError


def in_chunks(n: int, chunk: int, evaluate: Callable[[slice], None], release: Callable[[], None] = lambda: None) -> int:
    """Call `evaluate` on runs of at most `chunk` of `n` conformations; return the size that fitted.

    A run that does not fit the memory of the device is halved and evaluated anew, as are those after it, when `release`
    has let go of what was kept for runs of another size.

    Raises
    ------
    OutOfMemoryError
        If not even one conformation fits.
    """
    start = 0
    while start < n:
        size = min(chunk, n - start)
        if _fits(evaluate, slice(start, start + size)):
            start += size
            continue
        # Outside the handler: the exception holds the frames, and with them the memory, of what failed.
        if size == 1:
            raise OutOfMemoryError("device: out of memory for a single conformation; use a smaller system or the CPU")
        chunk = size // 2
        release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return chunk


def _fits(evaluate: Callable[[slice], None], rows: slice) -> bool:
    try:
        evaluate(rows)
    except torch.OutOfMemoryError:
        return False
    return True
