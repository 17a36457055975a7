"""`gibbsian bench`: make the rows of a table, or show those that exist."""

import sys
from pathlib import Path

from rich.console import Console

from gibbsian.bench.rows import RowKey, read_rows
from gibbsian.bench.show import show
from gibbsian.bench.tables import RESULTS, Place, make, select, table_of
from gibbsian.cli.console import StageReport, Watch
from gibbsian.errors import InputError


def bench(
    table: str,
    system: str | None,
    row: str | None,
    seed: int | None,
    results: Path | None,
    references: Path | None,
    max_time: float | None,
) -> None:
    """Make the selected rows that do not exist yet.

    Raises
    ------
    InputError
        For an unknown table, system, row or seed.
    StoppedError
        If stopped; what is done is kept.
    """
    keys = select(table_of(table).rows(), system, row, seed)
    place = Place(results or RESULTS, references)
    with Watch(max_time) as watch:

        def report(key: RowKey) -> StageReport:
            watch.say(key.command)
            return watch.report(key.row)

        make(table, keys, place, report, watch.say)


def show_table(table: str, system: str | None, row: str | None, seed: int | None, results: Path | None) -> None:
    """Print the selected rows that exist.

    Raises
    ------
    InputError
        If the table is unknown, no row exists, or none fits.
    """
    table_of(table)
    found = read_rows(results or RESULTS, table)
    if not found:
        raise InputError(f"{results or RESULTS}: no rows of {table} yet; run gibbsian bench {table} without --show")
    kept = set(select([r.key for r in found], system, row, seed))
    # A pipe has no width: whole lines can be searched.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 400)
    console.print(show([r for r in found if r.key in kept]))
