"""How draws became samples: annealing level by level, or exchange with a simulation."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from gibbsian.report.rounding import grouped, percent, plain
from gibbsian.report.svg import DATA, MUTED, PROPOSAL, REWEIGHTED, TRANSPORTED, new_figure, style, to_svg

Array = NDArray[np.float64]
_KINDS = ("unique", "effective")
Rows = list[tuple[str, str, str]]
"""Quantity, value, meaning."""


def correction_rows(made: Mapping[str, Any]) -> Rows:
    """Return what the provenance of an ensemble says of its making; empty for importance samples."""
    if made.get("method") == "exchange":
        return _exchange_rows(made)
    if made.get("method") == "langevin":
        return _path_rows(made)
    return _annealing_rows(made) if made.get("levels") else []


def _annealing_rows(made: Mapping[str, Any]) -> Rows:
    levels, n = made["levels"], made["ancestors"]
    resampled = sum(bool(level["resampled"]) for level in levels)
    rows = [
        ("Draws with descendants", _of(made["unique_ancestors"], n), "after all resampling; the other lines died out"),
        (
            "Effective ancestors",
            _of(made["effective"], n),
            "how the final weight is shared between the draws: what the verdict and all errors use",
        ),
        (
            "Effective by importance sampling",
            _of(made["proposal_ess"], n),
            "the same draws, weighted where they came; annealing should be well above",
        ),
        (
            "Effective since the last resampling",
            percent(levels[-1]["ess"]),
            "high by construction, because resampling makes weights equal: no measure of the ensemble",
        ),
        (
            "Levels",
            grouped(len(levels)),
            f"resampled after {resampled} of them",
        ),
    ]
    moved = [level["displacement_nm"] for level in levels if level.get("displacement_nm") is not None]
    if moved:
        value = f"{plain(1000 * median(moved), 2)} pm"
        rows.append(("Displacement of an atom", value, "root mean square, in the median level"))
    if made.get("exact") is False:
        rows.append(("Kernel", "biased", "its moves have no Metropolis test; no error bar shows what that does"))
    return rows


def _exchange_rows(made: Mapping[str, Any]) -> Rows:
    rows = [
        ("Draws accepted", percent(made.get("draws_acceptance")), "of those that were offered to the coldest replicas"),
        (
            "Statistical inefficiency",
            plain(made.get("statistical_inefficiency"), 3),
            "samples that are worth one independent sample, by the slowest of energy and shape",
        ),
        ("Effective samples", plain(made.get("effective"), 3), "samples over that number"),
    ]
    swaps, local = made.get("swap_acceptance") or (), made.get("local_acceptance") or ()
    if swaps:
        rows.append(("Swaps accepted", _span(swaps), "between neighbouring temperatures"))
    if local:
        rows.append(("Moves accepted", _span(local), "at all temperatures"))
    return rows


def _path_rows(made: Mapping[str, Any]) -> Rows:
    rows = [
        ("Steps", grouped(made["settings"]["steps"]), "of each path, on the energy of the molecule alone"),
        ("Step", f"{plain(1000 * made['step'], 2)} pm", "spread of the noise of one step"),
        (
            "Effective by importance sampling",
            plain(made.get("proposal_ess"), 3),
            "the same draws, weighted where they came",
        ),
    ]
    if made.get("max_energy") is not None:
        bound = plain(made["max_energy"])
        rows.append(("Ended too high", percent(made["above"]), f"above {bound} kT: weight zero, but counted"))
    if not made.get("weighted", True):
        rows.append(("Weights", "none", "nothing corrects the distribution of these samples"))
    elif made.get("exact") is False:
        rows.append(("Weights", "biased", "they hold for steps of no length"))
    return rows


def _of(value: float, n: int) -> str:
    return f"{plain(value, 3)} ({percent(value / n)})"


def _span(values: Sequence[float]) -> str:
    low, high = percent(min(values)), percent(max(values))
    return low if low == high else f"{low} to {high}"


def annealing(levels: Sequence[Mapping[str, Any]], n: int) -> str:
    """Four panels against t: lineage and weights, acceptance, step, displacement; lines mark resampling.

    Parameters
    ----------
    levels
        Records of `gibbsian.sampling.smc.sample_smc`, in order.
    n
        Number of particles.
    """
    t = _column(levels, "t")
    with style():
        figure, axes = new_figure(8.2, 4.9, 2, 2)
        for axis in axes:
            for at in t[np.array([bool(level["resampled"]) for level in levels])]:
                axis.axvline(at, color=MUTED, lw=0.7, alpha=0.6, ls=(0, (3, 2)))
            axis.set(xlim=(0, 1), xlabel="t")
            axis.grid(axis="y")
            axis.set_axisbelow(True)
        _fractions(axes[0], t, levels, n)
        _line(axes[1], t, _column(levels, "acceptance"), REWEIGHTED, "moves")
        _line(axes[1], t, _column(levels, "regen_acceptance"), PROPOSAL, "regeneration by the flow")
        axes[1].set(ylim=(0, 1), ylabel="acceptance")
        _line(axes[2], t, 1000 * _column(levels, "step"), REWEIGHTED)
        _line(axes[3], t, 1000 * _column(levels, "displacement_nm"), REWEIGHTED)
        axes[2].set(ylabel="step / pm")
        axes[3].set(ylabel="displacement / pm")
        for axis in axes[2:]:
            axis.set_ylim(bottom=0)
        for axis in axes[:2]:
            handles, labels = axis.get_legend_handles_labels()
            if handles:
                axis.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
        return to_svg(figure, "annealing", "Ancestors, acceptance, step and displacement at each level of annealing")


def _fractions(axis: Axes, t: Array, levels: Sequence[Mapping[str, Any]], n: int) -> None:
    start, none = np.concatenate([[0.0], t]), [1.0]
    unique, effective = (np.concatenate([none, _column(levels, f"{kind}_ancestors") / n]) for kind in _KINDS)
    _line(axis, start, 100 * unique, DATA, "with descendants")
    _line(axis, start, 100 * effective, REWEIGHTED, "effective")
    since = np.concatenate([none, _column(levels, "ess")])
    axis.plot(start, 100 * since, color=TRANSPORTED, lw=1.1, ls=(0, (2, 1.5)), label="since resampling")
    least = np.nanmin(np.concatenate([effective, since]))
    ticks = [d * 10.0**k for k in range(-6, 3) for d in (1, 2, 5) if least / 2 < d * 10.0 ** (k - 2) <= 1]
    axis.set(yscale="log", ylabel="draws / %", ylim=(100 * max(least, 1e-6) / 1.3, 120))
    axis.set_yticks(ticks if len(ticks) < 8 else ticks[-1::-3])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _line(axis: Axes, t: Array, values: Array, colour: str, label: str | None = None) -> None:
    if np.isfinite(values).any():
        axis.plot(t, values, color=colour, lw=1.4, marker="." if len(t) < 60 else None, ms=4, label=label)


def _column(levels: Sequence[Mapping[str, Any]], key: str) -> Array:
    found = [level.get(key) for level in levels]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)
