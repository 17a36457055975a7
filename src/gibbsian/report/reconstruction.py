"""The section "Reduced coordinates": what rebuilding held-out frames from the free coordinates alone changes."""

from collections.abc import Mapping
from typing import Any

from gibbsian.report.rounding import MISSING, fixed, grouped, percent, plain

CLASSES = {
    "bonds": "bonds alone",
    "angles": "other angles alone",
    "deltas": "differences of torsions alone",
    "rings": "rings alone",
    "rotors": "rotors of hydrogens alone",
}
"""What is frozen, by the names of results.json."""


def reconstructed(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the template needs, a row for each way of freezing; None for a run without reduced coordinates.

    Parameters
    ----------
    results
        Content of results.json; its ``reconstruction`` is from `gibbsian.evaluate.reconstruction.Reconstruction`.
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
    }


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
