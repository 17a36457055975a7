"""Samples that resemble none of the training data, beside the training frame nearest to each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.report.rounding import INFINITE, percent, plain, with_error
from gibbsian.report.svg import DATA, REWEIGHTED, new_figure, style, to_svg

DRAWN = 3
"""Structures that are drawn, the furthest first."""


def novel_section(found: Mapping[str, Any] | None, pairs: NDArray[np.floating] | None) -> dict[str, Any] | None:
    """Return what the template needs; None where nobody looked.

    Parameters
    ----------
    found
        ``backbone.novel`` of results.json, see `gibbsian.workflow.novel.novel`.
    pairs
        (2 k, a, 3) nm, traces of minima and of the training frame beside each; None for no figure.
    """
    if not found:
        return None
    return {
        "n": found["n"],
        "threshold": f"{found['threshold']:.3f}",
        "share": percent(found["share"]),
        "population": with_error(**found["population"]),
        "rows": [_row(one) for one in found["structures"]],
        "traces": None if pairs is None or not len(pairs) else novel_traces(pairs),
    }


def _row(one: Mapping[str, Any]) -> dict[str, str]:
    lengths = {name: f"{one[name]:.3f}" for name in ("distance", "drift", "nearest")}
    energies = {name: INFINITE if one[name] is None else plain(one[name], 3) for name in ("before", "after")}
    return lengths | energies


def novel_traces(pairs: NDArray[np.floating]) -> str:
    """Alpha-carbon traces (2 k, a, 3) of minimised structures over the training frame nearest to each."""
    couples = np.asarray(pairs, dtype=np.float64).reshape(-1, 2, *pairs.shape[1:])[:DRAWN]
    with style():
        figure, panels = new_figure(2.2 * len(couples) + 0.4, 2.6, 1, len(couples))
        for axis, (minimum, frame) in zip(panels, couples, strict=True):
            centre = frame.mean(axis=0)
            turn = np.linalg.svd(frame - centre, full_matrices=False)[2]
            for trace, colour, name in (
                (frame, DATA, "nearest of the data"),
                (minimum, REWEIGHTED, "novel, minimised"),
            ):
                flat = (trace - centre) @ turn.T
                axis.plot(flat[:, 0], flat[:, 1], color=colour, lw=1.6, label=name)
                axis.plot(*flat[0, :2], "o", color=colour, ms=4)
            axis.set_aspect("equal", adjustable="datalim")
            axis.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, borderaxespad=0.2)
        return to_svg(figure, "novel", f"Traces of {len(couples)} novel structures over the nearest training frames")
