"""Figures of ensembles of proteins: fluctuations, energies, an embedding, the lowest energies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gibbsian.errors import InputError
from gibbsian.evaluate.backbone import Fluctuations
from gibbsian.report.distributions import Energies, share_outside
from gibbsian.report.rounding import grouped, percent
from gibbsian.report.svg import DATA, INK, MUTED, PAPER, REWEIGHTED, RULE, new_figure, style, to_svg

Array = NDArray[np.float64]

CUT, REACH = 0.999, 3.0
"""The energy axis ends at this quantile of a simulation, but so many times as far above its median as 5 % lie below."""
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
POINTS = 1500
"""Points of each set in an embedding."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Fluctuations of one set of conformations; the colour is one of `gibbsian.report.svg`."""

    title: str
    colour: str
    found: Fluctuations


@dataclass(frozen=True, eq=False)
class Points:
    """Places (n, 2) of one set of conformations in an embedding."""

    title: str
    colour: str
    points: Array


def fluctuations(curves: Sequence[Curve]) -> str:
    """Root-mean-square fluctuation of the alpha carbons along the chain, bands of one standard error.

    Parameters
    ----------
    curves
        In the order of the legend; of one colour, the second is dashed and the third dotted.
    """
    with style():
        figure, (axis,) = new_figure(6.6, 3.0)
        for place, curve in enumerate(curves):
            residue, values, error = curve.found.residues + 1, curve.found.values, curve.found.errors
            dashes = _dashes([other.colour for other in curves[: place + 1]])
            axis.plot(residue, values, color=curve.colour, ls=dashes, lw=1.5, label=curve.title)
            if np.isfinite(error).all():
                axis.fill_between(residue, values - error, values + error, color=curve.colour, alpha=0.18, lw=0)
        axis.set(xlabel="residue", ylabel="RMSF of Cα / nm")
        axis.set_ylim(bottom=0)
        axis.margins(x=0.01)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(axis="y")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, borderaxespad=0.2)
        titles = ", ".join(curve.title for curve in curves)
        return to_svg(figure, "rmsf", f"Fluctuation of each alpha carbon: {titles}")


def _dashes(colours: Sequence[str]) -> str | tuple[int, tuple[float, ...]]:
    """Return the dashes of the last curve, by how many before it have its colour."""
    return _DASHES[(colours.count(colours[-1]) - 1) % len(_DASHES)]


def energy_distributions(curves: Sequence[Energies]) -> str:
    """Densities of the reduced energies of several ensembles; the axis ends where simulations do, but for clashes.

    The share of each curve beyond the axis, clashes and energies that are not finite included, stands in the legend.

    Parameters
    ----------
    curves
        In the order of the legend: simulation for training, for testing, and rebuilt with the frozen coordinates of the
        model, all three in the colour of data; generated, and generated and reweighted.
    """
    high = max(_end(curve) for curve in curves if curve.colour == DATA)
    low = min(_quantile(curve, 1 - CUT) for curve in curves)
    low -= 0.03 * (high - low)
    bins = int(np.clip(min(len(curve.u) for curve in curves) ** 0.5, 30, 100))
    edges = np.linspace(low, high, bins + 1)
    with style():
        figure, (axis,) = new_figure(6.6, 3.4)
        for place, curve in enumerate(curves):
            density = np.histogram(curve.u, edges, weights=curve.weights)[0] / np.diff(edges)
            label = f"{curve.title} ({_percentage(share_outside(curve, -np.inf, high))} beyond)"
            if curve.colour == DATA:
                axis.stairs(density, edges, color=DATA, fill=True, alpha=0.15, lw=0)
            dashes = _dashes([other.colour for other in curves[: place + 1]])
            axis.stairs(density, edges, baseline=None, color=curve.colour, lw=1.4, ls=dashes, label=label)
        axis.set(xlabel="reduced potential energy u / kT", ylabel="probability density", xlim=(low, high))
        axis.set_ylim(bottom=0)
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.2)
        titles = [curve.title for curve in curves]
        return to_svg(figure, "protein energies", f"Distributions of the potential energy: {', '.join(titles)}")


def _end(curve: Energies) -> float:
    """Energy above which a simulation, or one with frozen coordinates, has clashes only."""
    middle, low = _quantile(curve, 0.5), _quantile(curve, 0.05)
    return min(_quantile(curve, CUT), middle + REACH * (middle - low))


def _quantile(curve: Energies, share: float) -> float:
    """Return a weighted quantile of the finite energies."""
    used = np.isfinite(curve.u) & (curve.weights > 0)
    if not used.any():
        raise InputError(f"energy figure: {curve.title} has no finite energy of positive weight; leave it out")
    order = np.argsort(curve.u[used])
    cumulative = np.cumsum(curve.weights[used][order])
    place = np.searchsorted(cumulative / cumulative[-1], share)
    return float(curve.u[used][order][min(int(place), len(order) - 1)])


def _percentage(share: float) -> str:
    return "none" if share <= 0 else "below 0.01 %" if share < 1e-4 else percent(share)


def embedding(
    sets: Sequence[Points], axes: tuple[str, str] = ("first component", "second component"), *, seed: int = 0
) -> str:
    """Scatter of several sets in the plane, one panel each over the shadow of the first, with equal numbers of points.

    Parameters
    ----------
    sets
        Training data first; of each as many points are drawn as the smallest has.
    axes
        Names of both directions.
    """
    n = min(POINTS, *(len(one.points) for one in sets))
    rng = np.random.default_rng(seed)
    drawn = [one.points[rng.permutation(len(one.points))[:n]] for one in sets]
    both = np.concatenate(drawn)
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.05 * np.maximum(high - low, 1e-9)
    with style():
        figure, panels = new_figure(2.75 * len(sets) + 0.4, 3.1, 1, len(sets))
        for place, (axis, one, points) in enumerate(zip(panels, sets, drawn, strict=True)):
            if place:
                _dots(axis, drawn[0], RULE, 1.0)
            _dots(axis, points, one.colour, 0.6)
            axis.set_title(f"{one.title} ({grouped(n)} points)")
            axis.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
            axis.set_xlabel(axes[0])
            if place:
                axis.tick_params(axis="y", labelleft=False)
        panels[0].set_ylabel(axes[1])
        return to_svg(figure, "embedding", f"Embedding of conformations: {', '.join(one.title for one in sets)}")


def _dots(axis: Axes, points: Array, colour: str, alpha: float) -> None:
    # One path of strokes without length and with round ends: a third of the text that as many circles are.
    corners = np.repeat(points, 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points))
    path = Path(corners, codes)
    path.should_simplify = False
    axis.add_patch(PathPatch(path, fill=False, edgecolor=colour, alpha=alpha, lw=2.0, capstyle="round"))


def lowest_traces(start: Array, conformations: Array, energies: Array) -> str:
    """Overlay of alpha-carbon traces on that of a start structure, seen along two perpendicular directions.

    Parameters
    ----------
    start
        (a, 3) nm.
    conformations
        (k, a, 3) nm, superposed on the start.
    energies
        (k,) kJ/mol, ascending.
    """
    if not len(conformations) or start.shape != conformations.shape[1:]:
        raise InputError(f"traces: {conformations.shape} on {start.shape}; give at least one, of the same atoms")
    centre = start.mean(axis=0)
    # The longest axis of the start lies across the page, the shortest along the first view.
    frame = np.linalg.svd(start - centre, full_matrices=False)[2]
    reference, traces = (start - centre) @ frame.T, (conformations - centre) @ frame.T
    everything = np.concatenate([reference[None], traces]).reshape(-1, 3)
    width, height = 1.08 * np.abs(everything[:, 0]).max(), 1.12 * np.abs(everything[:, 1:]).max()
    with style():
        figure, panels = new_figure(6.6, 0.5 + 3.3 * max(height / width, 0.35), 1, 2)
        for axis, (across, up) in zip(panels, ((0, 1), (0, 2)), strict=True):
            shades = np.linspace(0.85, 0.3, len(traces))
            lines = LineCollection(list(traces[..., [across, up]]), colors=REWEIGHTED, linewidths=1.1)
            lines.set_alpha(list(shades))
            axis.add_collection(lines)
            flat = reference[:, [across, up]]
            axis.plot(flat[:, 0], flat[:, 1], color=PAPER, lw=4.0)
            axis.plot(flat[:, 0], flat[:, 1], color=INK, lw=2.0, label="start structure")
            axis.plot(*flat[0], "o", color=INK, ms=4.5)
            axis.set(xlim=(-width, width), ylim=(-1.15 * height, height), aspect="equal")
            axis.set_axis_off()
            _scale_bar(axis, width, height)
        panels[0].plot([], [], color=REWEIGHTED, label=_range(energies))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.2)
        description = f"Traces of {len(traces)} conformations of lowest energy over the start structure, two views"
        return to_svg(figure, "lowest", description)


def _range(energies: Array) -> str:
    return f"{len(energies)} lowest energies, {energies.min():.0f} to {energies.max():.0f} kJ/mol".replace("-", "−")


def _scale_bar(axis: Axes, width: float, height: float) -> None:
    length = next((step for step in (1.0, 0.5, 0.2, 0.1) if step < 0.6 * width), 0.1)
    axis.plot([width - length, width], [-1.1 * height] * 2, color=MUTED, lw=1.4)
    text = f"{length:g} nm"
    axis.text(width - length / 2, -1.07 * height, text, color=MUTED, fontsize=8, ha="center", va="bottom")
