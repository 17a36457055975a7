"""The section "Reduced coordinates": what rebuilding held-out frames from the free coordinates alone changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gibbsian.report.backbone import energy_distributions
from gibbsian.report.distributions import Energies
from gibbsian.report.rounding import MISSING, fixed, grouped, percent, plain
from gibbsian.report.svg import DATA
from gibbsian.report.views import View, Views

CLASSES = {
    "bonds": "bonds alone",
    "angles": "other angles alone",
    "deltas": "differences of torsions alone",
    "rings": "rings alone",
    "rotors": "rotors of hydrogens alone",
}
"""What is frozen, by the names of results.json."""


def reconstructed(results: Mapping[str, Any], shown: Views) -> dict[str, Any] | None:
    """Return what the template needs, a row for each way of freezing; None for a run without reduced coordinates.

    Parameters
    ----------
    results
        Content of results.json; its ``reconstruction`` is from `gibbsian.evaluate.reconstruction.Reconstruction`.
    shown
        Sets of conformations whose energies are drawn beside those of rebuilt frames.
    """
    found = results.get("reconstruction")
    if not found:
        return None
    rows = [("all that the flow leaves out", found["rebuilt"]), ("the same, minimised", found["minimised"])]
    rows += [(CLASSES.get(name, name), part) for name, part in found["alone"].items()]
    return {
        "n": grouped(found["n"]),
        "rows": [{"name": name, **_row(part)} for name, part in rows],
        "sentence": found["sentence"],
        "energies": _energies(found["energies"], shown),
    }


def _energies(rebuilt: Mapping[str, list[float | None]], shown: Views) -> str | None:
    """Energies of data, held-out frames as they were and rebuilt, draws and result; None where none is finite."""
    data, others = _curves([shown.data]), _curves([shown.proposal, shown.result])
    frames = [_rebuilt("held-out frames", rebuilt["given"]), _rebuilt("rebuilt", rebuilt["rebuilt"])]
    curves = [*data, *frames, *others]
    return energy_distributions(curves) if all(np.isfinite(one.u).any() for one in curves) else None


def _curves(shown: Sequence[View | None]) -> list[Energies]:
    known = [view for view in shown if view is not None]
    return [Energies(v.title, v.colour, v.ensemble.u, v.ensemble.weights) for v in known if v.ensemble.u is not None]


def _rebuilt(title: str, energies: Sequence[float | None]) -> Energies:
    u = np.array([np.inf if value is None else value for value in energies])
    return Energies(title, DATA, u, np.full(len(u), 1 / len(u)))


def _row(part: Mapping[str, Any]) -> dict[str, str]:
    before, after = part["clashes"]
    return {
        **{name: _distances(part["rmsd"].get(name)) for name in ("ca", "backbone", "heavy")},
        "shift": plain(part["shift"], 3),
        "spread": plain(part["spread"], 3),
        "correlation": MISSING if part["correlation"] is None else fixed(part["correlation"], 2),
        "clashes": f"{percent(before)} → {percent(after)}",
    }


def _distances(pair: list[float] | None) -> str:
    """Median and 95 % quantile in Angstrom; a dash where too few atoms have a shape."""
    return MISSING if pair is None else f"{10 * pair[0]:.2f} ({10 * pair[1]:.2f})"
