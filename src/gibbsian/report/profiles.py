"""Free-energy profiles as a picture that stands alone."""

from collections.abc import Mapping
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gibbsian.ensemble.profiles import Profile
from gibbsian.report.svg import new_figure, style
from gibbsian.report.torsions import RAMACHANDRAN_DEPTH, free_energy_surface

Array = NDArray[np.float64]
_LINE, _INK, _GRID = "#0b5cad", "#1b2129", "#dfe3e8"


def profile_png(profiles: Mapping[str, Profile], surface: tuple[Array, Array, Array] | None = None) -> bytes:
    """Return a PNG file with a panel for each profile, and one for a surface.

    Parameters
    ----------
    profiles
        By the name of the torsion.
    surface
        Two angles (n,) rad, named as the first two profiles, and weights (n,); None for no such panel.
    """
    with style(), matplotlib.rc_context({"axes.facecolor": "white", "axes.edgecolor": _INK, "grid.color": _GRID}):
        n = len(profiles) + (surface is not None)
        figure, axes = new_figure(3.4 * n + 0.6, 3.0, 1, n)
        names = list(profiles)
        for axis, (name, profile) in zip(axes, profiles.items(), strict=False):
            _draw(axis, name, profile)
        if surface is not None:
            first, second, weights = surface
            depth = np.ma.masked_greater(free_energy_surface(first, second, weights), RAMACHANDRAN_DEPTH)
            axis = axes[-1]
            image = axis.imshow(depth, origin="lower", extent=(-180, 180, -180, 180), cmap="viridis", aspect="equal")
            axis.set(xlabel=f"{names[0]} / °", ylabel=f"{names[1]} / °")
            figure.colorbar(image, ax=axis, label="free energy / kT")
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()


def _draw(axis: Axes, name: str, profile: Profile) -> None:
    """Draw a line with a band of one standard error; bins without samples are gaps."""
    seen = np.isfinite(profile.free_energy)
    x, y, error = (
        np.where(seen, part, np.nan) for part in (np.degrees(profile.centres), profile.free_energy, profile.error)
    )
    axis.plot(x, y, color=_LINE)
    axis.fill_between(x, y - error, y + error, color=_LINE, alpha=0.25, lw=0)
    axis.set(xlim=(-180, 180), ylim=(min(-0.5, float(np.nanmin(y - error))), None))
    axis.set_xticks([-180, -90, 0, 90, 180])
    axis.set(xlabel=f"{name} / °", ylabel="free energy / kT")
    axis.grid(visible=True)
