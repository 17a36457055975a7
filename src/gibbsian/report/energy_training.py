"""How a flow was led to the Boltzmann distribution by energies: a trace of every step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gibbsian.report.rounding import grouped, percent, plain
from gibbsian.report.svg import DATA, MUTED, PROPOSAL, REWEIGHTED, TRANSPORTED, new_figure, style, to_svg

Array = NDArray[np.float64]
Log = Sequence[Mapping[str, Any]]
_DRAWN, _WEIGHTED = " drawn", " weighted"
_COLOURS = (REWEIGHTED, DATA, TRANSPORTED, PROPOSAL)
_MOST_BASINS = 6
"""Basins whose shares are drawn: those that are rarest, which get lost first."""


def energy_training_rows(log: Log) -> list[tuple[str, str, str]]:
    """Return quantity, value and meaning of what the training on energies came to; empty without a log."""
    if not log:
        return []
    last = log[-1]
    refused = sum(entry.get("refused") == "yes" for entry in log)
    return [
        ("Energies", grouped(last["calls"]), "of the draws that the flow learnt from"),
        ("Steps", grouped(len(log)), f"{refused} of them refused because too few samples carried the weight"),
        ("Effective at the last draw", percent(last["target_ess"]), "fraction of the draws, before the last fit"),
        ("log Z at the last draw", plain(last["target_log_z"], 2), "in the mean-free orthonormal measure, nm"),
    ]


def energy_training(log: Log) -> str:
    """Four panels against energy calls: effective fractions, log Z, nats of each step, shares of rare basins.

    Parameters
    ----------
    log
        Lines of ``annealing.jsonl``, in order.
    """
    calls = _column(log, "calls")
    with style():
        figure, axes = new_figure(8.2, 5.4, 2, 2)
        for axis in axes:
            for at in calls[np.array([entry.get("refused") == "yes" for entry in log])]:
                axis.axvline(at, color=MUTED, lw=0.7, alpha=0.6, ls=(0, (3, 2)))
            axis.set(xlabel="energies", xlim=(0, float(calls[-1])))
            axis.ticklabel_format(axis="x", style="sci", scilimits=(4, 4))
            axis.grid(axis="y")
        _line(axes[0], calls, 100 * _column(log, "target_ess"), REWEIGHTED, "for the target")
        _line(axes[0], calls, 100 * _column(log, "ess"), MUTED, "for the next step")
        axes[0].set(ylabel="effective draws / %", yscale="log")
        _line(axes[1], calls, _column(log, "target_log_z"), REWEIGHTED, "of the target")
        axes[1].set(ylabel="log Z")
        _line(axes[2], calls, _column(log, "divergence"), REWEIGHTED, "KL(next | flow)")
        _line(axes[2], calls, _column(log, "entropy_drop"), DATA, "loss of entropy")
        axes[2].set(ylabel="nats")
        _shares(axes[3], calls, log)
        for axis in axes:
            handles, labels = axis.get_legend_handles_labels()
            axis.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
        return to_svg(figure, "energy_training", "Effective fractions, log Z, nats and basins against energy calls")


def _shares(axis: Axes, calls: Array, log: Log) -> None:
    names = [key.removesuffix(_WEIGHTED) for key in log[-1] if key.endswith(_WEIGHTED)]
    rare = sorted(names, key=lambda name: log[-1][name + _WEIGHTED])[:_MOST_BASINS]
    for k, name in enumerate(rare):
        colour = _COLOURS[k % len(_COLOURS)]
        _line(axis, calls, 100 * _column(log, name + _DRAWN), colour, name)
        axis.plot(calls, 100 * _column(log, name + _WEIGHTED), color=colour, lw=1.0, ls=(0, (2, 1.5)))
    axis.set(ylabel="share / %", yscale="log")


def _line(axis: Axes, x: Array, y: Array, colour: str, label: str) -> None:
    shown = np.where(np.isfinite(y), y, math.nan)
    axis.plot(x, shown, color=colour, lw=1.4, marker="." if len(x) < 60 else None, ms=4, label=label)


def _column(log: Log, key: str) -> Array:
    return np.array([entry.get(key, math.nan) for entry in log], dtype=np.float64)
