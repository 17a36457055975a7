"""The tables: which rows each has, and making those that are missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from gibbsian.bench.rows import Row, RowKey
from gibbsian.errors import InputError
from gibbsian.files import make_folder
from gibbsian.progress import Report, silent
from gibbsian.workflow.runfolder import locked

TABLES = {
    "engine": "energies and forces per second, against OpenMM on the same cores",
    "accuracy": "largest errors of energies and forces against OpenMM's Reference platform",
    "references": "basin free energies by replica exchange, and the certified references made of them",
    "dynamics": "replica exchange per core and minute against OpenMM, and averages at several time steps",
    "flows": "shapes of the spline flow by held-out likelihood and cost, and the speed of its kernels",
    "annealing": "flows trained on energies alone, beside maximum likelihood",
    "split-flow": "split flow on reduced coordinates and its plain baseline, by stages of training",
    "sbg": "transformer flows on Cartesian coordinates with importance sampling, annealing and exchange",
}
"""Names of the tables, each a module of `gibbsian.bench`, and what they hold."""

RESULTS = Path("benchmarks/results")
"""Where rows go unless told otherwise."""


@dataclass(frozen=True)
class Place:
    """Folders of a benchmark.

    Attributes
    ----------
    results
        Rows, one file each.
    references
        Certified references; None for the folder that the package reads them from.
    """

    results: Path = RESULTS
    references: Path | None = None

    @property
    def work(self) -> Path:
        """Resumable simulations, beside the results."""
        return self.results.parent / "work"


class Table(Protocol):
    """What the module of a table offers."""

    def rows(self) -> list[RowKey]:
        """Every row of the table, in the order in which to make them."""
        ...

    def run(self, key: RowKey, place: Place, report: Report = silent) -> Row:
        """Make one row; long work is resumable and reports itself."""
        ...


def table_of(name: str) -> Table:
    """Return the module of a table.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in TABLES:
        raise InputError(f"table: unknown {name!r}; choose one of {', '.join(TABLES)}")
    return cast("Table", import_module(f"gibbsian.bench.{name.replace('-', '_')}"))


def select(
    rows: Sequence[RowKey], system: str | None = None, row: str | None = None, seed: int | None = None
) -> list[RowKey]:
    """Rows with the given system, name and seed, each None for any.

    Raises
    ------
    InputError
        Naming what exists, if nothing has the system, the row or the seed.
    """
    kept = list(rows)
    for name, wanted in (("system", system), ("row", row)):
        if wanted is None:
            continue
        known = list(dict.fromkeys(getattr(key, name) for key in kept))
        if wanted not in known:
            raise InputError(f"{name}: unknown {wanted!r}; this table has {', '.join(known)}")
        kept = [key for key in kept if getattr(key, name) == wanted]
    if seed is None:
        return kept
    seeds = sorted({key.seed for key in kept if key.seed is not None})
    if seed not in seeds:
        listed = ", ".join(map(str, seeds)) or "none: nothing in these rows is random"
        raise InputError(f"seed: unknown {seed}; these rows have {listed}")
    return [key for key in kept if key.seed == seed]


def make(
    table: str,
    keys: Sequence[RowKey],
    place: Place,
    report: Callable[[RowKey], Report] = lambda key: silent,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Make the rows whose files do not exist, each written as soon as it is done; return the new files.

    Parameters
    ----------
    table
        Name of the table.
    keys
        Rows of it.
    place
        Folders.
    report, say
        Progress of a row, and lines to show.

    Raises
    ------
    InputError
        If another process is making one of the rows: two would continue the same simulations and trainings.
    StoppedError
        If `report` asked to stop: rows already done stay, and the same call continues.
    """
    module, written = table_of(table), []
    for key in keys:
        path = key.path(place.results)
        if path.exists():
            say(f"exists: {path}")
            continue
        lock = key.path(place.work / "locks").with_suffix(".lock")
        make_folder(lock.parent)
        with locked(lock, f"{path}: another process is making this row", "--results"):
            written.append(module.run(key, place, report(key)).write(place.results))
        say(f"wrote: {path}")
    return written
