"""Published numbers beside those of the table `sbg`, with what has to be known before any two are compared."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from rich.table import Table

from gibbsian.bench.rows import Metric

COLUMNS = ("ess", "e_w1", "e_w2", "t_w2", "tica_w2")

TRAPS = (
    "* Not comparable: the effective size of weights since the last resampling, after clipping. The same flows have "
    "0.03 to 0.05 under importance sampling.",
    "Systems of one name differ: AAA and AAAAAA are uncapped, in Cartesian coordinates at 310 K here, in SBG, FALCON "
    "and Prose; CMT, TA-BG and FAB have capped peptides in internal coordinates at 300 K.",
    "E-W1 and E-W2 are different distances of the energies, in kT. None of these publications prints a floor.",
    "0.2 % of the weights, the largest, are removed in SBG, FALCON and Prose (capped at 1e-4 in CMT and TA-BG), which "
    "biases effective sizes and energy distances. Nothing of ours is clipped, except in rows that say so.",
)
"""Footnotes; the first belongs to the star."""


@dataclass(frozen=True)
class Published:
    """One line of a publication.

    Attributes
    ----------
    system
        Built-in system that is nearest to theirs.
    method, draws
        Their name of it; number of draws, where it is told.
    figures
        By the names of `COLUMNS`, with their spread.
    starred
        Whether the effective size is that of weights since the last resampling.
    source
        Where the numbers are from.
    note
        What else there is to know.
    """

    system: str
    method: str
    draws: int | None
    figures: dict[str, Metric]
    starred: bool
    source: str
    note: str


@cache
def _content() -> dict[str, Any]:
    return yaml.safe_load((files("gibbsian.bench") / "published.yaml").read_text())


@cache
def published() -> tuple[Published, ...]:
    """Every line, in the order of the file."""
    content = _content()
    return tuple(_read(dict(row), content["sources"]) for row in content["rows"])


def _read(row: dict[str, Any], sources: dict[str, str]) -> Published:
    figures = {}
    for name in COLUMNS:
        value = row.pop(name, None)
        if value is not None:
            figures[name] = Metric(*value) if isinstance(value, list) else Metric(float(value))
    source = sources[row.pop("source")]
    plain = {"draws": None, "starred": False, "note": "", **row}
    return Published(figures=figures, source=source, **plain)


def table(systems: Collection[str], sources: Collection[str] | None = None) -> Table | None:
    """Lay out the lines of some systems, and of some sources by their key in the file; None where there is none."""
    kept = None if sources is None else {_content()["sources"][key] for key in sources}
    found = [line for line in published() if line.system in systems and (kept is None or line.source in kept)]
    if not found:
        return None
    laid = Table(box=None, pad_edge=False, title="Published", title_justify="left", caption_justify="left")
    laid.caption = "\n".join([TRAPS[0], *(f"({k}) {text}" for k, text in enumerate(TRAPS[1:], start=2))])
    for name in ("system", "method", "draws", *COLUMNS, "source", "note"):
        laid.add_column(name, overflow="fold")
    for line in found:
        figures = [_text(line.figures.get(name), line.starred and name == "ess") for name in COLUMNS]
        draws = "" if line.draws is None else f"{line.draws:,}"
        laid.add_row(line.system, line.method, draws, *figures, line.source, line.note)
    return laid


def _text(metric: Metric | None, starred: bool) -> str:
    if metric is None or metric.value is None:
        return ""
    # As printed by others, not rounded to our taste.
    text = f"{metric.value:g}" + ("" if metric.error is None else f" ± {metric.error:g}")
    return text + ("*" if starred else "")
