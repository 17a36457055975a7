"""What resumable work has cost so far, kept in its folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gibbsian.files import read_json, write_json
from gibbsian.processor import core_seconds

FILE = "cost.json"


class Meter:
    """Account of work under way.

    Attributes
    ----------
    idle
        Set where nothing was left to do: what reading the results takes is no cost of theirs.
    """

    def __init__(self, folder: Path) -> None:
        self.idle = False
        self._folder, self._before, self._began = folder, spent_in(folder), core_seconds()

    def now(self) -> float:
        """Write the account, where the folder exists, and return what has been spent by now."""
        total = self._before + core_seconds() - self._began
        if self._folder.exists():
            write_json(self._folder / FILE, {"core_seconds": total})
        return total


@contextmanager
def metered(folder: Path) -> Iterator[Meter]:
    """Add the processor time of this process and its children to the account in the folder, also when stopped.

    Another process that works in the same folder is waited for: rows share simulations, trainings and draws.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        meter = Meter(folder)
        try:
            yield meter
        except BaseException:
            meter.now()
            raise
        if not meter.idle:
            meter.now()


def spent_in(folder: Path) -> float:
    """Core-seconds of all attempts in a folder, 0 where none was made."""
    path = folder / FILE
    return round(float(read_json(path)["core_seconds"]), 2) if path.exists() else 0.0
