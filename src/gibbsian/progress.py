"""How long work reports itself: one callable, called after each piece of work that is safely on disk."""

from typing import Protocol


class Report(Protocol):
    """Receives `done` of `total` and the figures worth showing; it may raise `StoppedError`."""

    def __call__(self, done: float, total: float, /, **figures: float | str) -> None:
        """Take notice; raise `StoppedError` to stop the work here."""
        ...


def silent(done: float, total: float, /, **figures: float | str) -> None:
    """Report nothing."""
