"""The figures of the report: one function each, from arrays to an SVG string."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from gibbsian.report.svg import (
    BAD,
    DATA,
    GOOD,
    INK,
    MUTED,
    PROPOSAL,
    REWEIGHTED,
    RULE,
    new_figure,
    style,
    to_svg,
)

Array = NDArray[np.float64]
LOG_WEIGHT_DEPTH = 20.0
"""Clashes have log weights of minus thousands; below this they carry nothing and are not drawn."""


def basin_free_energies(rows: Sequence[Mapping[str, Any]]) -> str:
    """Free energy of each basin with one-sigma bars, the reference beside it.

    Parameters
    ----------
    rows
        ``basins`` of results.json; rows without a value are left out by the caller.
    """
    with style():
        figure, (axis,) = new_figure(6.6, 0.95 + 0.36 * len(rows))
        for place, row in enumerate(rows):
            _point(axis, row["free_energy"], place - 0.13, REWEIGHTED, "o", "this ensemble" if place == 0 else None)
            reference = row.get("reference")
            if reference and reference.get("value") is not None:
                _point(axis, reference, place + 0.13, DATA, "s", "reference" if place == 0 else None)
        axis.set_yticks(range(len(rows)), [str(row["name"]) for row in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("free energy / kT")
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
        return to_svg(figure, "basins", "Free energies of the basins with error bars, beside the reference")


def _point(axis: Axes, estimate: Mapping[str, Any], place: float, colour: str, marker: str, label: str | None) -> None:
    error = estimate.get("error")
    axis.errorbar(
        estimate["value"], place, xerr=error if error else None, color=colour, marker=marker,
        ms=5, capsize=2.5, elinewidth=1.2, lw=0, label=label,
    )  # fmt: skip


def log_weight_histogram(log_w: Array, counted: str = "samples") -> str:
    """Histogram of the log weights about the mean weight, and where their share of the total weight lies.

    Here and below `counted` says whose weights they are.
    """
    centred = log_w - _log_mean_exp(log_w)
    low, high = max(np.quantile(centred, 0.005), -LOG_WEIGHT_DEPTH), centred.max()
    edges = np.linspace(low, high + 0.02 * (high - low) + 1e-6, 61)
    with style():
        figure, (axis,) = new_figure(3.4, 2.5)
        counts = np.histogram(centred, edges)[0] / len(centred)
        share = np.histogram(centred, edges, weights=np.exp(centred))[0] / len(centred)
        axis.stairs(counts, edges, color=PROPOSAL, fill=True, alpha=0.3, lw=0, label=counted)
        axis.stairs(share, edges, color=REWEIGHTED, lw=1.6, label="weight they carry")
        axis.axvline(0, color=MUTED, lw=0.7)
        axis.set(xlabel="ln (w / mean w)", ylabel="fraction per bin")
        axis.set_ylim(0, 1.3 * max(counts.max(), share.max()))  # room for the legend
        axis.legend(loc="upper left")
        return to_svg(figure, "log weights", "Histogram of log weights and of the weight they carry")


def largest_weights(log_w: Array, counted: str = "samples") -> str:
    """Share of the total weight carried by the largest weights (a Lorenz curve on logarithmic axes)."""
    weights = np.sort(np.exp(log_w - log_w.max()))[::-1]
    share = np.cumsum(weights) / weights.sum()
    picks = _log_spaced(len(weights))
    with style():
        figure, (axis,) = new_figure(3.4, 2.5)
        axis.plot(picks, share[picks - 1], color=REWEIGHTED)
        axis.plot(picks, picks / len(weights), color=MUTED, lw=0.9, ls=(0, (4, 2)))
        axis.text(
            len(weights) ** 0.5 * 1.6,
            len(weights) ** -0.5,
            "equal weights",
            color=MUTED,
            fontsize=8,
            va="top",
        )
        axis.set(xscale="log", yscale="log", xlabel=f"largest {counted}", ylabel="share of the total weight")
        return to_svg(figure, "largest weights", f"Share of the total weight that the largest {counted} carry")


def ess_against_n(log_w: Array, counted: str = "samples") -> str:
    """Effective fraction (sum w)^2 / (n sum w^2) of the first n: it must level off, not fall."""
    weights = np.exp(log_w - log_w.max())
    total, squares = np.cumsum(weights), np.cumsum(weights**2)
    picks = _log_spaced(len(weights), first=min(20, len(weights)))
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.nan_to_num(total**2 / squares)[picks - 1] / picks
    with style():
        figure, (axis,) = new_figure(3.4, 2.5)
        axis.plot(picks, 100 * fraction, color=REWEIGHTED)
        axis.set(xscale="log", xlabel=f"{counted} n", ylabel="effective fraction / %")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(0, max(float(100 * fraction.max()) * 1.1, 1.0))
        axis.grid(axis="y")
        return to_svg(figure, "ess", f"Effective fraction against the number of {counted}")


def training_curves(log: Sequence[Mapping[str, Any]], step: str, curves: Mapping[str, str]) -> str:
    """Losses against the step, stages marked.

    Parameters
    ----------
    log
        One mapping for each logged step.
    step, curves
        Key of the step; label of each curve and its key. Entries without a key are skipped.
    """
    colours = [PROPOSAL, REWEIGHTED, DATA]
    with style():
        figure, (axis,) = new_figure(6.6, 3.0)
        last = max((entry[step] for entry in log if entry.get(step) is not None), default=0)
        shown: list[float] = []
        for (label, key), colour in zip(curves.items(), colours, strict=False):
            points = [(e[step], e[key]) for e in log if e.get(key) is not None and e.get(step) is not None]
            steps, values = np.array(points, dtype=float).reshape(-1, 2).T
            axis.plot(steps, values, color=colour, label=label, marker="." if len(values) < 40 else None, lw=1.4)
            # The fall of the first steps would press everything after it into one line.
            shown.extend(values[np.isfinite(values) & (steps >= 0.1 * last)].tolist())
        axis.set_xlim(0, 1.02 * max(last, 1))
        _mark_stages(axis, log, step)
        if shown:
            low, high = min(shown), max(shown)
            axis.set_ylim(low - 0.06 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
        axis.set(xlabel="training step", ylabel="negative log likelihood / nat")
        axis.grid(axis="y")
        axis.legend(loc="best")
        return to_svg(figure, "training", "Training and held-out negative log likelihood against the step")


def _mark_stages(axis: Axes, log: Sequence[Mapping[str, Any]], step: str) -> None:
    previous, end = None, 0
    for entry in log:
        stage = entry.get("stage")
        if stage is not None and stage != previous:
            # A stage begins where the one before was last seen.
            if previous is not None:
                axis.axvline(end, color=MUTED, lw=0.8, ls=(0, (3, 2)))
            place = axis.get_xaxis_transform()
            axis.text(end, 1.01, f" {stage}", transform=place, fontsize=8, color=MUTED, va="bottom")
            previous = stage
        end = entry.get(step, end)


def ladder(temperatures: Sequence[float], acceptance: Sequence[float]) -> str:
    """Bars of the acceptance of the exchange between neighbouring temperatures."""
    middles = (np.array(temperatures[:-1]) + np.array(temperatures[1:])) / 2
    with style():
        figure, (axis,) = new_figure(4.4, 2.5)
        axis.bar(middles, acceptance, width=0.72 * np.diff(temperatures), color=DATA, alpha=0.55)
        axis.axhline(0.2, color=MUTED, lw=0.8, ls=(0, (3, 2)))
        axis.set(xlabel="temperature / K", ylabel="accepted exchanges", ylim=(0, 1))
        axis.set_xticks(
            list(temperatures),
            [f"{t:.0f}" for t in temperatures],
            rotation=90 if len(temperatures) > 9 else 0,
        )
        return to_svg(figure, "ladder", "Accepted fraction of exchanges between neighbouring temperatures")


def distances(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each distance in units of its floor, the distance of reference to reference at the same sample size."""
    ratios = [row["value"] / row["floor"] for row in rows]
    with style():
        figure, (axis,) = new_figure(6.6, 0.75 + 0.27 * len(rows))
        axis.axvspan(0, 1, color=RULE, alpha=0.7, lw=0)
        for place, ratio in enumerate(ratios):
            axis.plot([1, ratio], [place, place], color=RULE, lw=1.2)
            axis.plot(ratio, place, "o", ms=5.5, color=GOOD if ratio < 2 else PROPOSAL if ratio < 5 else BAD)
        axis.axvline(1, color=INK, lw=0.8)
        axis.set_yticks(range(len(rows)), [str(row["name"]) for row in rows])
        axis.set(xlim=(0, max(2.2, 1.08 * max(ratios))), xlabel="distance / floor")
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        return to_svg(figure, "distances", "Distances to the reference in units of their floors")


def sticks(models: NDArray[np.float64], bonds: NDArray[np.int64], elements: Sequence[str]) -> str:
    """Draw superposed conformations as lines: stands in for the 3-D view in print and without WebGL.

    Parameters
    ----------
    models
        (m, n_atoms, 3) superposed coordinates, nm.
    bonds
        (n_bonds, 2) atom indices; bonds to hydrogen are left out.
    """
    heavy = np.array([elements[i] != "H" and elements[j] != "H" for i, j in bonds.tolist()], dtype=bool)
    centred = models - models.mean(axis=(0, 1))
    _, _, axes_3d = np.linalg.svd(centred.reshape(-1, 3)[:20_000], full_matrices=False)
    flat = centred @ axes_3d[:2].T
    with style():
        figure, (axis,) = new_figure(5.6, 3.4)
        for place, model in enumerate(flat):
            # One line per conformation, broken after each bond.
            lines = np.insert(model[bonds[heavy]], 2, np.nan, axis=1).reshape(-1, 2)
            width, opacity = (2.2, 1.0) if place == 0 else (1.1, 0.28)
            axis.plot(*lines.T, color=REWEIGHTED, lw=width, alpha=opacity, solid_capstyle="round")
        axis.set_aspect("equal")
        axis.axis("off")
        return to_svg(figure, "sticks", f"{len(models)} conformations drawn by weight and superposed, heavy atoms only")


def _log_spaced(n: int, first: int = 1, points: int = 160) -> NDArray[np.int64]:
    return np.unique(np.geomspace(first, n, points).round().astype(np.int64))


def _log_mean_exp(log_w: Array) -> float:
    top = log_w.max()
    return float(top + np.log(np.mean(np.exp(log_w - top))))
