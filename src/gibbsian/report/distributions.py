"""Figures of energies and of interatomic distances, one curve for each set of conformations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from gibbsian.report.rounding import percent
from gibbsian.report.svg import DATA, TRANSPORTED, new_figure, style, to_svg

Array = NDArray[np.float64]

MARGIN = 20.0
"""kT that the energy axis goes beyond the reference on either side."""
QUANTILES = (0.001, 0.999)
SHORT = 0.2
"""nm; below it lie bonds, and what is shorter than they are."""


@dataclass(frozen=True, eq=False)
class Energies:
    """One curve: reduced energies (n,) in kT, which may be infinite or NaN, and normalised weights (n,)."""

    title: str
    colour: str
    u: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Distances:
    """One curve: density (k,) in 1/nm of the distances between all atoms."""

    title: str
    colour: str
    density: Array


def energy_axis(u: Array, weights: Array) -> tuple[float, float]:
    """Return where 99.8 % of a reference's weight lies, and `MARGIN` on either side, in kT."""
    used = np.isfinite(u) & (weights > 0)
    values, mass = u[used], weights[used]
    order = np.argsort(values)
    cumulative = np.cumsum(mass[order]) / mass.sum()
    low, high = values[order][np.clip(np.searchsorted(cumulative, QUANTILES), 0, len(values) - 1)]
    return float(low) - MARGIN, float(high) + MARGIN


def share_outside(curve: Energies, low: float, high: float) -> float:
    """Return the share of the weight outside an axis; what is not finite is outside."""
    return float(curve.weights[~((curve.u >= low) & (curve.u <= high))].sum())


def energy_histogram(curves: Sequence[Energies], axis_range: tuple[float, float]) -> str:
    """Densities of the reduced energy; the share of each curve that is outside the axis stands in the legend.

    Parameters
    ----------
    curves
        In the order of the legend; the last is drawn on top.
    axis_range
        See `energy_axis`.
    """
    low, high = axis_range
    bins = int(np.clip(min(len(curve.u) for curve in curves) ** 0.5, 40, 110))
    edges = np.linspace(low, high, bins + 1)
    with style():
        figure, (axis,) = new_figure(6.6, 3.3)
        for curve in curves:
            density = np.histogram(curve.u, edges, weights=curve.weights)[0] / np.diff(edges)
            label = f"{curve.title} ({_little(share_outside(curve, low, high))} outside)"
            _stairs(axis, density, edges, curve.colour, label)
        axis.set(xlabel="reduced potential energy u / kT", ylabel="probability density", xlim=(low, high))
        axis.set_ylim(bottom=0)
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.2)
        titles = ", ".join(curve.title for curve in curves)
        return to_svg(figure, "energy", f"Histogram of the potential energy: {titles}")


def _little(share: float) -> str:
    return "none" if share == 0 else "below 0.01 %" if share < 1e-4 else percent(share)


def distance_histogram(curves: Sequence[Distances], edges: Array) -> str:
    """Densities of all interatomic distances: from zero to the longest, and short ones on a logarithmic scale.

    Parameters
    ----------
    curves
        In the order of the legend; the last is drawn on top.
    edges
        (k + 1,) nm.
    """
    with style():
        figure, (whole, short) = new_figure(8.2, 3.0, 1, 2, width_ratios=(2.4, 1))
        near = edges[1:] <= SHORT
        for curve in curves:
            _stairs(whole, curve.density, edges, curve.colour, curve.title)
            _stairs(short, curve.density[near], edges[: near.sum() + 1], curve.colour)
        whole.set(xlim=(0, edges[-1]), xlabel="distance / nm", ylabel="density / nm⁻¹")
        whole.set_ylim(0, _top([curve.density for curve in curves], edges))
        positive = np.concatenate([curve.density[near] for curve in curves])
        positive = positive[positive > 0]
        if len(positive):
            short.set_yscale("log")
            short.set_ylim(max(positive.min() / 2, 1e-6 * positive.max()), 3 * positive.max())
            short.yaxis.set_minor_formatter(NullFormatter())
        short.set(xlim=(0, SHORT), xlabel="distance / nm")
        short.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        handles, labels = whole.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(curves), borderaxespad=0.2)
        titles = ", ".join(curve.title for curve in curves)
        return to_svg(figure, "pair distances", f"Density of the distances between all atoms: {titles}")


def _top(densities: Sequence[Array], edges: Array) -> float:
    """Return an upper end that shows everything beyond bonds; their narrow peaks may be cut."""
    beyond = edges[:-1] > SHORT
    highest = max((float(density[beyond].max(initial=0.0)) for density in densities), default=0.0)
    return 1.35 * highest if highest > 0 else max(float(density.max()) for density in densities)


def _stairs(axis: Axes, density: Array, edges: Array, colour: str, label: str | None = None) -> None:
    dashes = (0, (4, 1.5)) if colour == TRANSPORTED else "-"
    if colour == DATA:
        axis.stairs(density, edges, color=colour, fill=True, alpha=0.22, lw=0)
    axis.stairs(density, edges, baseline=None, color=colour, lw=1.4, ls=dashes, label=label)
