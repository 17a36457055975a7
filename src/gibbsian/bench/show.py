"""A table on the screen, made from the files of its rows."""

from collections.abc import Sequence

from rich.table import Table

from gibbsian.bench.rows import Metric, Row
from gibbsian.report.rounding import MISSING, plain, with_error

WIDEST = 8
"""Most metrics that get a column each; tables with more get a line for each."""


def show(rows: Sequence[Row], columns: Sequence[str] = ()) -> Table:
    """Lay out rows: a column for each metric, or a line for each where there are many.

    With `columns` there is one for each of these that any row has, and nothing else.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    names = [name for name in columns if name in names] if columns else names
    wide = bool(columns) or len(names) <= WIDEST
    table = Table(box=None, pad_edge=False)
    for name in ("system", "row", "seed", *(names if wide else ("metric", "value"))):
        table.add_column(name, overflow="fold")
    for row in rows:
        label = (row.key.system, row.key.row, "" if row.key.seed is None else str(row.key.seed))
        if wide:
            table.add_row(*label, *(_text(row.metrics.get(name)) for name in names))
            continue
        for name, metric in row.metrics.items():
            table.add_row(*label, name, _text(metric))
            label = ("", "", "")
    return table


def _text(metric: Metric | None) -> str:
    if metric is None:
        return ""
    if metric.value is None:
        return MISSING
    floor = "" if metric.floor is None else f" (floor {plain(metric.floor)})"
    return with_error(metric.value, metric.error) + floor
