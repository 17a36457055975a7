"""Figures of the backbone torsions: Ramachandran surfaces, profiles along phi, shares of the basins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.contour import QuadContourSet
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gibbsian.ensemble.profiles import Profile
from gibbsian.report.svg import INK, MUTED, PAPER, new_figure, style, to_svg

Array = NDArray[np.float64]

RAMACHANDRAN_BINS = 60
RAMACHANDRAN_DEPTH = 8.0
"""kT; deeper is left blank."""
_SMOOTHED = 6.0
"""Degrees by which a surface is smoothed."""
_SYMBOLS = {"left": "L", "alpha": "α", "beta": "β"}
_MARKERS = "soD^v"
_LEAST_SHARE = 1e-5
_DEPTH_COLOURS = LinearSegmentedColormap.from_list(
    "depth", ["#0b2a4a", "#1b5e8c", "#3f97b5", "#8fc7c4", "#dbe6c4", "#f3d9a0"]
)


@dataclass(frozen=True, eq=False)
class Marginal:
    """One residue of one set of conformations.

    Attributes
    ----------
    title, colour
        As in `gibbsian.report.views.View`.
    profile
        Along phi.
    basins
        Share of each basin and its standard error, by the names of `gibbsian.ensemble.basins.BASINS`.
    """

    title: str
    colour: str
    profile: Profile
    basins: Mapping[str, tuple[float, float]]


def ramachandran(panels: Sequence[tuple[str, Array]], name: str) -> str:
    """Free-energy surfaces -ln p(phi, psi) of one residue, one panel for each set of conformations.

    Parameters
    ----------
    panels
        (title, surface); surfaces as `free_energy_surface` gives them.
    name
        The residue, for the accessible title.
    """
    with style():
        width = 2.7 if len(panels) < 4 else 2.25
        figure, axes = new_figure(width * len(panels) + 0.9, width + 0.25, 1, len(panels))
        drawn = [_surface(axis, surface) for axis, (_, surface) in zip(axes, panels, strict=True)]
        for axis, (title, _) in zip(axes, panels, strict=True):
            axis.set_title(title)
            axis.set_xlabel("φ / °")
            _basin_lines(axis)
            if axis is not axes[0]:
                axis.tick_params(axis="y", labelleft=False)
            if len(panels) > 3:
                axis.set_xticks([-90, 0, 90])
        axes[0].set_ylabel("ψ / °")
        bar = figure.colorbar(
            drawn[0],
            ax=axes,
            label="free energy / kT",
            shrink=0.85,
            aspect=24,
            ticks=np.arange(0, RAMACHANDRAN_DEPTH + 1, 2),
        )
        bar.outline.set_visible(False)
        titles = ", ".join(title for title, _ in panels)
        return to_svg(figure, f"ramachandran {name}", f"Ramachandran free-energy surface of {name}: {titles}")


def free_energy_surface(phi: Array, psi: Array, weights: Array, bins: int = RAMACHANDRAN_BINS) -> Array:
    """Return -ln p on a periodic grid (psi, phi) in kT with minimum 0; infinite where nothing was seen.

    The histogram is smoothed by a periodic Gaussian.
    """
    edges = np.linspace(-np.pi, np.pi, bins + 1)
    histogram, _, _ = np.histogram2d(psi, phi, bins=[edges, edges], weights=weights)
    return smoothed_surface(histogram)


def smoothed_surface(histogram: Array) -> Array:
    """Return the surface of `free_energy_surface` from a histogram (psi, phi) over the whole circle."""
    density = gaussian_filter(histogram, sigma=_SMOOTHED / 360 * len(histogram), mode="wrap", truncate=3.0)
    with np.errstate(divide="ignore"):
        return -np.log(density / density.max())


def _surface(axis: Axes, surface: Array) -> QuadContourSet:
    step = 360.0 / len(surface)
    centres = -180.0 + step * (np.arange(-1, len(surface) + 1) + 0.5)
    padded = np.ma.masked_greater(np.pad(surface, 1, mode="wrap"), RAMACHANDRAN_DEPTH)
    levels = np.arange(0, RAMACHANDRAN_DEPTH + 0.5, 1.0)
    filled = axis.contourf(centres, centres, padded, levels=levels, cmap=_DEPTH_COLOURS)
    axis.contour(centres, centres, padded, levels=levels[1:-1], colors=[PAPER], linewidths=0.35)
    axis.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal")
    axis.set_xticks([-180, -90, 0, 90, 180])
    axis.set_yticks([-180, -90, 0, 90, 180])
    return filled


def _basin_lines(axis: Axes) -> None:
    """Draw the borders of the basins, see `gibbsian.ensemble.basins.classify`."""
    line = {"color": MUTED, "lw": 0.7, "ls": (0, (3, 2))}
    for phi in (0.0, 126.0):
        axis.plot([phi, phi], [-180, 180], **line)
    for psi in (-120.0, 34.0):
        axis.plot([-180, 0], [psi, psi], **line)
        axis.plot([126, 180], [psi, psi], **line)
    for x, y, label in ((-13, -105, "α"), (-13, 165, "β"), (113, 165, "L")):
        halo = {"facecolor": PAPER, "alpha": 0.7, "edgecolor": "none", "pad": 1.2}
        axis.text(x, y, label, color=INK, fontsize=8, ha="center", va="center", bbox=halo)


def phi_marginals(rows: Sequence[Marginal], name: str) -> str:
    """Profiles -ln p(phi) of one residue with bands of one standard error, and the shares of its basins.

    Parameters
    ----------
    rows
        At least one; the last is drawn on top.
    name
        The residue, for the accessible title.
    """
    with style():
        figure, (left, right) = new_figure(8.2, 2.75, 1, 2)
        for row in rows:
            _profile(left, row)
        left.set(xlim=(-180, 180), ylim=(-0.3, RAMACHANDRAN_DEPTH), xlabel="φ / °", ylabel="free energy / kT")
        left.set_xticks([-180, -90, 0, 90, 180])
        left.grid(axis="y")
        _basin_shares(right, rows)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(rows), borderaxespad=0.2)
        titles = ", ".join(row.title for row in rows)
        return to_svg(figure, f"phi {name}", f"Free energy along phi and shares of the basins of {name}: {titles}")


def _profile(axis: Axes, row: Marginal) -> None:
    seen = np.isfinite(row.profile.free_energy)
    x = np.degrees(row.profile.centres)
    y, error = (np.where(seen, part, np.nan) for part in (row.profile.free_energy, row.profile.error))
    if row.colour == INK:  # what is known best is drawn as points, so that it covers nothing
        axis.plot(x, y, color=INK, marker="o", ms=2.6, lw=0, label=row.title)
        return
    axis.plot(x, y, color=row.colour, lw=1.5, label=row.title)
    axis.fill_between(x, y - error, y + error, color=row.colour, alpha=0.18, lw=0)


def _basin_shares(axis: Axes, rows: Sequence[Marginal]) -> None:
    """Draw a line of points for each basin; a triangle at the edge stands for a basin that was never seen."""
    seen = [share for row in rows for share, _ in row.basins.values() if share > 0]
    least = max(min(seen, default=0.1) / 3, _LEAST_SHARE)
    names = list(rows[0].basins)
    for place, row in enumerate(rows):
        offset = 0.62 * ((place + 0.5) / len(rows) - 0.5)
        for line, (share, error) in enumerate(row.basins[name] for name in names):
            y = line + offset
            if share < least:
                axis.plot(least, y, marker="<", ms=5, color=row.colour, mfc=PAPER, lw=0, clip_on=False)
                continue
            # The bar must not cross zero on a logarithmic axis, and a sum of all weights may exceed one by rounding.
            room = max(1 - share, 0.0)
            below = min(error, share - least) if np.isfinite(error) else share - least
            above = min(error, room) if np.isfinite(error) else room
            axis.errorbar(
                share, y, xerr=[[below], [above]], color=row.colour, marker=_MARKERS[place % len(_MARKERS)],
                ms=4, capsize=2, elinewidth=1.1, lw=0,
            )  # fmt: skip
    axis.set_yticks(range(len(names)), [_SYMBOLS.get(name, name) for name in names])
    axis.set(xscale="log", xlim=(least, 1.0), xlabel="share of the basin")
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
