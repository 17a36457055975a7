"""Figures of benchmark tables: times, effective size against cost, distances against levels, quantiles of energies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gibbsian.errors import InputError
from gibbsian.files import make_folder, write_text
from gibbsian.report.svg import MUTED, PAPER, RULE, SERIES, new_figure, standalone, style, to_svg

_MARKERS = "osD^vP*"
_DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)))
"""Taken in turn when the colours are used up."""
_HATCHES = ("", "///", "...")
LINEAR = 100.0
"""kT up to which an axis of energies is linear."""


@dataclass(frozen=True)
class Bar:
    """What one method takes on one system: seconds, and their spread where it is known."""

    system: str
    method: str
    seconds: float
    error: float | None = None


@dataclass(frozen=True)
class Curve:
    """Points of one curve, and the standard error of each `y` where they are known."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None


@dataclass(frozen=True)
class Mark:
    """A value drawn as a line across the figure: a published number, a floor."""

    label: str
    value: float


@dataclass(frozen=True)
class Box:
    """Quantiles of one set of energies in kT: 5, 25, 50, 75 and 95 %; infinite where energies are."""

    label: str
    quantiles: tuple[float, float, float, float, float]


def inference_time(bars: Sequence[Bar], samples: int = 10_000) -> str:
    """Seconds for so many weighted samples on a logarithmic scale, one group of bars for each system.

    Systems and methods are in the order in which they first appear; a method that a system lacks leaves a gap.

    Raises
    ------
    InputError
        Without a bar, or with a time that is not positive.
    """
    if not bars or not all(bar.seconds > 0 for bar in bars):
        raise InputError(f"inference time: {len(bars)} bars; give at least one, each with a positive time in seconds")
    systems = list(dict.fromkeys(bar.system for bar in bars))
    methods = list(dict.fromkeys(bar.method for bar in bars))
    width = 0.82 / len(methods)
    with style():
        figure, (axis,) = new_figure(max(4.4, 1.2 + 0.55 * len(systems) + 0.28 * len(systems) * len(methods)), 3.3)
        bottom = 10.0 ** np.floor(np.log10(min(bar.seconds for bar in bars)) - 0.15)
        for k, method in enumerate(methods):
            colour, hatch = SERIES[k % len(SERIES)], _HATCHES[k // len(SERIES) % len(_HATCHES)]
            mine = [bar for bar in bars if bar.method == method]
            places = [systems.index(bar.system) + (k - (len(methods) - 1) / 2) * width for bar in mine]
            heights = [bar.seconds - bottom for bar in mine]
            axis.bar(
                places, heights, 0.9 * width, bottom, color=colour, alpha=0.75, lw=0, label=method,
                hatch=hatch, edgecolor=PAPER,
            )  # fmt: skip
            for place, bar in zip(places, mine, strict=True):
                if bar.error:
                    low = min(bar.error, bar.seconds - bottom)
                    axis.errorbar(place, bar.seconds, yerr=[[low], [bar.error]], color=MUTED, elinewidth=1, capsize=2)
        axis.set(yscale="log", ylabel=f"seconds for {samples:,} samples".replace(",", "\u202f"))
        axis.set_ylim(bottom=bottom)
        axis.set_xticks(range(len(systems)), systems)
        axis.set_xlim(-0.6, len(systems) - 0.4)
        axis.tick_params(axis="x", length=0)
        _plain_scale(axis, "y")
        _finish(figure, axis)
        described = f"Seconds for {samples} weighted samples: {', '.join(systems)}; {', '.join(methods)}"
        return to_svg(figure, "inference time", described)


def ess_against_cost(
    curves: Sequence[Curve], published: Mark | None = None, cost: str = "core-seconds of training"
) -> str:
    """Effective sample size in per cent of the draws against the cost of training, both logarithmic.

    Parameters
    ----------
    curves
        ``x`` cost, ``y`` fractions with their errors; points at zero are left out.
    published
        Fraction that others reached.
    cost
        What the cost is counted in.

    Raises
    ------
    InputError
        If no curve has a point above zero.
    """
    with style():
        figure, (axis,) = new_figure(6.6, 3.5)
        _curves(axis, curves, "effective sample size against cost", scale=100.0)
        if published is not None:
            _mark(axis, Mark(published.label, 100 * published.value))
        axis.set(xscale="log", yscale="log", xlabel=cost, ylabel="effective sample size / %")
        _plain_scale(axis, "x")
        _plain_scale(axis, "y")
        _finish(figure, axis)
        labels = ", ".join(curve.label for curve in curves)
        return to_svg(figure, "ess against cost", f"Effective sample size against training cost: {labels}")


def distance_against_levels(
    energy: Sequence[Curve],
    torus: Sequence[Curve],
    energy_floor: Mark | None = None,
    torus_floor: Mark | None = None,
) -> str:
    """Distances of energies (kT) and of torsions (rad) from the reference against the annealing steps K.

    Parameters
    ----------
    energy, torus
        ``x`` is K. Both panels have the same curves in the same order.
    energy_floor, torus_floor
        What the reference has to itself at the same sample size: no distance below it means anything.

    Raises
    ------
    InputError
        If a panel has no point above zero.
    """
    with style():
        figure, axes = new_figure(8.2, 3.2, 1, 2)
        panels = ((energy, energy_floor, "energies, W1 / kT"), (torus, torus_floor, "torsions, W2 / rad"))
        for axis, (curves, floor, label) in zip(axes, panels, strict=True):
            _curves(axis, curves, f"distance against levels: {label}")
            axis.set(xscale="log", yscale="log", xlabel="annealing steps K", ylabel=label)
            if floor is not None:
                axis.set_ylim(bottom=min(axis.get_ylim()[0], 0.8 * floor.value))
                axis.axhspan(axis.get_ylim()[0], floor.value, color=RULE, alpha=0.7, lw=0)
                _mark(axis, floor)
            _plain_scale(axis, "x")
            _plain_scale(axis, "y")
            axis.grid(axis="y")
            axis.set_axisbelow(True)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, borderaxespad=0.2)
        described = ", ".join(curve.label for curve in energy)
        return to_svg(figure, "distance against levels", f"Distances against the annealing steps: {described}")


def energy_boxes(boxes: Sequence[Box]) -> str:
    """Quantiles of energies above the median of the first, one line each, linear to `LINEAR` and logarithmic beyond."""
    zero = boxes[0].quantiles[2]
    furthest = max(abs(q - zero) for box in boxes for q in box.quantiles)
    with style():
        figure, (axis,) = new_figure(6.6, 0.7 + 0.32 * len(boxes))
        for place, box in enumerate(boxes):
            low, first, middle, third, high = (float(np.clip(q - zero, -1e12, 1e12)) for q in box.quantiles)
            colour = MUTED if place == 0 else SERIES[0]
            axis.plot([low, high], [place, place], color=colour, lw=1.0)
            axis.plot([first, third], [place, place], color=colour, lw=6.0, alpha=0.5, solid_capstyle="butt")
            axis.plot(middle, place, "|", color=colour, ms=11, mew=2.0)
        if furthest > LINEAR:
            axis.set_xscale("symlog", linthresh=LINEAR, linscale=1.5)
        axis.set(xlabel=f"potential energy above the median of {boxes[0].label} / kT")
        axis.set_yticks(range(len(boxes)), [box.label for box in boxes])
        axis.invert_yaxis()
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        return to_svg(figure, "energies", f"Quantiles of energies: {', '.join(box.label for box in boxes)}")


def write_figures(figures: Mapping[str, str], folder: Path) -> list[Path]:
    """Write SVG figures as files that stand alone, ``NAME.svg``, and return their paths.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    make_folder(folder)
    paths = [folder / f"{name}.svg" for name in figures]
    for path, svg in zip(paths, figures.values(), strict=True):
        write_text(path, standalone(svg))
    return paths


def _curves(axis: Axes, curves: Sequence[Curve], what: str, scale: float = 1.0) -> None:
    """Draw curves with error bars; what a logarithmic axis cannot show is left out."""
    drawn = 0
    for k, curve in enumerate(curves):
        x, y = (np.asarray(values, dtype=np.float64) for values in (curve.x, curve.y))
        error = np.zeros(len(y)) if curve.error is None else np.nan_to_num(np.asarray(curve.error, dtype=np.float64))
        shown = (x > 0) & (y > 0) & np.isfinite(y)
        x, y, error = x[shown], scale * y[shown], scale * error[shown]
        drawn += len(x)
        axis.errorbar(
            x, y, yerr=np.stack([np.minimum(error, 0.9 * y), error]), color=SERIES[k % len(SERIES)],
            ls=_DASHES[k // len(SERIES) % len(_DASHES)], marker=_MARKERS[k % len(_MARKERS)], ms=4, lw=1.4,
            elinewidth=1, capsize=2, label=curve.label,
        )  # fmt: skip
    if not drawn:
        raise InputError(f"{what}: no point above zero in {len(curves)} curves; give rows that are finished")


def _mark(axis: Axes, mark: Mark) -> None:
    axis.axhline(mark.value, color=MUTED, lw=0.9, ls=(0, (4, 2)))
    axis.annotate(
        mark.label, (0.0, mark.value), xycoords=("axes fraction", "data"), xytext=(4, 3), textcoords="offset points",
        ha="left", va="bottom", fontsize=8, color=MUTED,
    )  # fmt: skip


def _plain_scale(axis: Axes, which: str) -> None:
    """Label decades as plain numbers, and 2 and 5 where there are few of them."""
    low, high = getattr(axis, f"get_{which}lim")()
    steps = (1, 2, 5) if np.log10(high / low) < 2.2 else (1,)
    ticks = [d * 10.0**k for k in range(-9, 13) for d in steps if low <= d * 10.0**k <= high]
    along = axis.xaxis if which == "x" else axis.yaxis
    along.set_ticks(ticks)
    along.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace(",", "\u202f")))
    along.set_minor_formatter(NullFormatter())
    getattr(axis, f"set_{which}lim")(low, high)


def _finish(figure: Figure, axis: Axes) -> None:
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=max(2, int(figure.get_figwidth() / 1.5)), borderaxespad=0.2
    )
