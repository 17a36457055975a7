"""What resumable work has cost so far, kept in its folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gibbsian.files import read_json, write_json
from gibbsian.processor import core_seconds

FILE = "cost.json"


@contextmanager
def metered(folder: Path) -> Iterator[Callable[[], float]]:
    """Add the processor time of this process and its children to the account in the folder, also when stopped.

    What it hands out writes the account, where the folder exists, and returns what has been spent by now.
    """
    before, began = spent_in(folder), core_seconds()

    def now() -> float:
        total = before + core_seconds() - began
        if folder.exists():
            write_json(folder / FILE, {"core_seconds": total})
        return total

    try:
        yield now
    finally:
        now()


def spent_in(folder: Path) -> float:
    """Core-seconds of all attempts in a folder, 0 where none was made."""
    path = folder / FILE
    return round(float(read_json(path)["core_seconds"]), 2) if path.exists() else 0.0
