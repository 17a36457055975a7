"""Heat capacity and basin free energies against temperature, and how far each temperature may be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gibbsian.report.rounding import MISSING, grouped, percent, plain, with_error
from gibbsian.report.svg import DATA, REWEIGHTED, SERIES, new_figure, style, to_svg

Rows = Sequence[Mapping[str, Any]]
MOST_BASINS = 6
"""Basins that are drawn: those that are neither certain nor absent."""


def temperature_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one row of text for each temperature of the model; empty where there is one temperature only."""
    return [_row(row) for row in (results.get("temperatures") or {}).get("model") or ()]


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    energy, capacity, k_hat = row.get("energy") or {}, row.get("heat_capacity") or {}, row.get("k_hat")
    return {
        "temperature": plain(row["temperature"]),
        "effective": grouped(round(row["ess"]["count"])),
        "fraction": percent(row["ess"]["fraction"]),
        "k_hat": MISSING if k_hat is None else f"{k_hat:.2f}",
        "energy": with_error(energy.get("value"), energy.get("error")),
        "heat_capacity": with_error(capacity.get("value"), capacity.get("error")),
        "reliable": "yes" if row["reliable"] else "no",
        "level": "good" if row["reliable"] else "bad",
    }


def temperature_plot(results: Mapping[str, Any]) -> str | None:
    """Two panels against temperature: heat capacity, free energies of the basins; None where there is no scan."""
    found = results.get("temperatures") or {}
    model, data = found.get("model") or [], found.get("data") or []
    if len(model) < 2:
        return None
    with style():
        figure, (left, right) = new_figure(8.2, 3.3, 1, 2)
        _series(left, [_point(row, row.get("heat_capacity")) for row in model], REWEIGHTED, "model")
        _crosses(left, [_point(row, row.get("heat_capacity")) for row in data], DATA, "data")
        for name, colour in zip(_basins(model), SERIES, strict=False):
            _series(right, [_point(row, _basin(row, name)) for row in model], colour, name)
            _crosses(right, [_point(row, _basin(row, name)) for row in data], colour, None)
        left.set(xlabel="temperature / K", ylabel="heat capacity / kJ/mol/K")
        right.set(xlabel="temperature / K", ylabel="free energy / kT")
        for axis in (left, right):
            axis.grid(axis="y")
            handles, labels = axis.get_legend_handles_labels()
            if labels:
                axis.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        return to_svg(figure, "temperatures", "Heat capacity and free energies of basins against temperature")


def _basins(model: Rows) -> list[str]:
    """Names of the basins to draw, in the order of the table."""
    free = {b["name"]: b["free_energy"]["value"] for b in model[0].get("basins") or ()}
    known = [name for name, value in free.items() if value is not None]
    chosen = sorted(known, key=lambda name: abs(free[name]))[:MOST_BASINS]
    return [name for name in known if name in chosen]


def _basin(row: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((basin["free_energy"] for basin in row.get("basins") or () if basin["name"] == name), None)


def _point(row: Mapping[str, Any], estimate: Mapping[str, Any] | None) -> tuple[float, float, float, bool]:
    """Temperature, value and error, NaN where unknown, and whether it may be believed."""
    value, error = ((estimate or {}).get(key) for key in ("value", "error"))
    known = np.nan if value is None else value
    return row["temperature"], known, 0.0 if error is None else error, bool(row["reliable"]) and error is not None


def _series(axis: Axes, points: Sequence[tuple[float, float, float, bool]], colour: str, label: str) -> None:
    """Line with error bars and points, hollow where they may not be believed."""
    t, value, error, reliable = (np.array(column) for column in zip(*points, strict=True))
    axis.errorbar(t, value, error, color=colour, lw=1.0, elinewidth=1.0, capsize=2.0)
    axis.plot(t, value, "o", ms=5, mfc="none", mec=colour, label=label if not reliable.any() else None)
    if reliable.any():
        axis.plot(t[reliable], value[reliable], "o", ms=5, color=colour, label=label)


def _crosses(axis: Axes, points: Sequence[tuple[float, float, float, bool]], colour: str, label: str | None) -> None:
    if not points:
        return
    t, value, error, _ = (np.array(column) for column in zip(*points, strict=True))
    axis.errorbar(t, value, error, fmt="x", ms=6, color=colour, elinewidth=1.0, label=label)
