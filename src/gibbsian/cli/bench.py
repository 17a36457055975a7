"""`gibbsian bench`: make the rows of a table, list them, or show those that exist."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gibbsian.bench.rows import Row, RowKey, read_rows
from gibbsian.bench.show import show
from gibbsian.bench.tables import RESULTS, Place, make, select, table_of
from gibbsian.cli.console import StageReport, Watch
from gibbsian.errors import InputError
from gibbsian.report.benchmarks import write_figures


@dataclass(frozen=True)
class Choice:
    """Which rows of a table: each None for any, `ablation` None for the rows that belong to none."""

    table: str
    system: str | None = None
    row: str | None = None
    seed: int | None = None
    ablation: str | None = None

    def of(self, keys: Sequence[RowKey]) -> list[RowKey]:
        """Choose among rows.

        Raises
        ------
        InputError
            For a table without ablations, or an unknown system, row, seed or ablation.
        """
        choose: Callable[..., list[RowKey]] | None = getattr(table_of(self.table), "chosen", None)
        if choose is None and self.ablation is not None:
            raise InputError(f"ablation: the table {self.table} has none; they belong to sbg")
        found = select(keys, self.system, self.row, self.seed)
        return found if choose is None else choose(found, self.ablation, self.row is not None, self.system is not None)


def bench(choice: Choice, results: Path | None, references: Path | None, max_time: float | None) -> None:
    """Make the selected rows that do not exist yet.

    Raises
    ------
    InputError
        For an unknown table, system, row, seed or ablation.
    StoppedError
        If stopped; what is done is kept.
    """
    keys = choice.of(table_of(choice.table).rows())
    place = Place(results or RESULTS, references)
    with Watch(max_time) as watch:

        def report(key: RowKey) -> StageReport:
            watch.say(key.command)
            return watch.report(key.row)

        make(choice.table, keys, place, report, watch.say)


def list_table(choice: Choice, results: Path | None) -> None:
    """Print the selected rows, whether they exist, and what those that do not are expected to cost."""
    module = table_of(choice.table)
    estimate: Callable[[RowKey], float] | None = getattr(module, "estimate", None)
    table = Table(box=None, pad_edge=False)
    for name in ("system", "row", "seed", "state", "core-minutes"):
        table.add_column(name, justify="right" if name == "core-minutes" else "left")
    left = 0.0
    for key in choice.of(module.rows()):
        done = key.path(results or RESULTS).exists()
        seconds = 0.0 if done or estimate is None else estimate(key)
        left += seconds
        cost = f"{seconds / 60:.1f}" if seconds else ""
        table.add_row(
            key.system, key.row, "" if key.seed is None else str(key.seed), "exists" if done else "missing", cost
        )
    console = _console()
    console.print(table)
    if estimate is not None:
        console.print(f"About {left / 3600:.1f} core-hours are left.")


def show_table(choice: Choice, results: Path | None) -> None:
    """Print the selected rows that exist; of tables with many columns the most telling, unless one row is named.

    Raises
    ------
    InputError
        If the table is unknown, no row exists, or none fits.
    """
    module: Any = table_of(choice.table)
    rows = _existing(choice, results)
    columns = () if choice.row or choice.ablation else getattr(module, "COLUMNS", ())
    console = _console()
    console.print(show(_telling(rows, columns), columns))
    beside = getattr(module, "beside", None)
    published = beside({row.key.system for row in rows}) if beside is not None and not choice.ablation else None
    if published is not None:
        console.print()
        console.print(published)


def draw_figures(choice: Choice, results: Path | None, folder: Path) -> None:
    """Draw the figures of a table from the selected rows that exist, as SVG files.

    Raises
    ------
    InputError
        If the table is unknown or has no figures, the rows allow none, or the folder cannot be written.
    """
    draw: Callable[[list[Row]], dict[str, str]] | None = getattr(table_of(choice.table), "figures", None)
    drawn = {} if draw is None else draw(_existing(choice, results))
    if not drawn:
        raise InputError(
            f"{choice.table}: no figures of these rows; sbg has some of its curves, speeds and steps, annealing has "
            "some of its trainings, split-flow has energies"
        )
    for path in write_figures(drawn, folder):
        _console().print(f"wrote: {path}")


def _existing(choice: Choice, results: Path | None) -> list[Row]:
    """Rows in the order of their table; those that it no longer has come last."""
    found = read_rows(results or RESULTS, choice.table)
    if not found:
        raise InputError(
            f"{results or RESULTS}: no rows of {choice.table} yet; run gibbsian bench {choice.table} without options"
        )
    kept = set(choice.of([row.key for row in found]))
    order = {key: place for place, key in enumerate(table_of(choice.table).rows())}
    return sorted((row for row in found if row.key in kept), key=lambda row: order.get(row.key, len(order)))


def _telling(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    """Rows with any distance or free energy among the columns: a curve or a speed has its own columns."""
    return [row for row in rows if not columns or any(name in row.metrics for name in columns[3:-3])]


def _console() -> Console:
    # A pipe has no width: whole lines can be searched.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)
