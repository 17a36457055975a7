"""The section "Against replica exchange": what either method pays for its basin free energies."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from gibbsian.evaluate.cost import TARGET
from gibbsian.report.rounding import MISSING, grouped, plain
from gibbsian.report.svg import DATA, MUTED, PAPER, REWEIGHTED, new_figure, style, to_svg

METHODS = {
    "replica_exchange": ("replica exchange alone", DATA, "s"),
    "flow": ("learned ensemble", REWEIGHTED, "o"),
}
"""Key in results.json: name, colour and marker."""

_DECADE = (1, 2, 5)


def comparison(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the template needs; None for a run that could not be compared.

    Parameters
    ----------
    results
        Content of results.json; its ``performance.tt01`` is from `gibbsian.evaluate.comparison.against_exchange`.
    """
    found = (results.get("performance") or {}).get("tt01")
    if not found:
        return None
    certified = any(value is not None for value in found["difference"].values())
    legend = (
        "Largest standard error of a basin against the core-seconds spent until then; dashed: expected with more "
        f"samples. The learned ensemble begins when its model is trained. Horizontal line: {TARGET} kT."
    )
    if certified:
        legend += " Hollow: largest difference from the certified reference, whose own error is in it."
    return {
        "text": found["explanation"],
        "rows": [_row(found, method) for method in METHODS],
        "certified": certified,
        "plot": error_against_cost(found["curves"]),
        "legend": legend,
    }


def _row(found: Mapping[str, Any], method: str) -> dict[str, str]:
    time, error, difference = found[method], found["same_cost"][method], found["difference"][method]
    return {
        "name": METHODS[method][0].capitalize(),
        "time": "not reached" if time is None else grouped(round(time)) if time >= 10 else plain(time, 2),
        "error": MISSING if error is None else plain(error, 2),
        "difference": MISSING if difference is None else plain(difference, 2),
    }


def error_against_cost(curves: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str | None:
    """Draw the largest basin error (kT) against core-seconds, both logarithmic; None without a point.

    Parameters
    ----------
    curves
        By the keys of `METHODS`: ``measured`` and ``expected`` points of ``core_seconds``, ``error`` and, where known,
        ``difference``.
    """
    if not any(curves[method]["measured"] for method in METHODS):
        return None
    with style():
        figure, (axis,) = new_figure(6.6, 3.4)
        axis.set(xscale="log", yscale="log", xlabel="core-seconds", ylabel="error of a basin / kT")
        axis.axhline(TARGET, color=MUTED, lw=0.9)
        for method in METHODS:
            _curve(axis, curves[method], method)
        for which in (axis.xaxis, axis.yaxis):
            which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            which.set_minor_formatter(NullFormatter())
        deepest = min((p["error"] for m in METHODS for p in curves[m]["measured"]), default=TARGET)
        axis.set_ylim(bottom=max(axis.get_ylim()[0], min(TARGET / 10, 0.8 * deepest)))
        _ticks(axis)
        axis.grid(which="major")
        axis.set_axisbelow(True)
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
        return to_svg(figure, "cost", "Largest basin error against core-seconds, learned ensemble and replica exchange")


def _curve(axis: Axes, points: Mapping[str, Sequence[Mapping[str, float]]], method: str) -> None:
    label, colour, marker = METHODS[method]
    measured, expected = points["measured"], points["expected"]
    cost = [point["core_seconds"] for point in measured]
    axis.plot(cost, [point["error"] for point in measured], color=colour, marker=marker, ms=4, label=label)
    ahead = [(point["core_seconds"], point["error"]) for point in expected]
    axis.plot([x for x, _ in ahead], [y for _, y in ahead], color=colour, lw=1.2, ls=(0, (4, 2)))
    off = [(point["core_seconds"], point["difference"]) for point in measured if point.get("difference")]
    axis.plot(
        [x for x, _ in off], [y for _, y in off], color=colour, marker=marker, ms=5, mfc=PAPER, mew=1.1, lw=0, alpha=0.8
    )


def _ticks(axis: Axes) -> None:
    """Label 1, 2 and 5 of each decade: the axes seldom span more than two."""
    for get, put in ((axis.get_xlim, axis.set_xticks), (axis.get_ylim, axis.set_yticks)):
        low, high = get()
        ticks = [d * 10.0**k for k in range(-6, 12) for d in _DECADE if low <= d * 10.0**k <= high]
        put(ticks)
        (axis.set_xlim if put == axis.set_xticks else axis.set_ylim)(low, high)
