"""The section "Backbone": an ensemble of a protein beside its data, from results and sets of conformations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.atoms import alpha_carbons
from gibbsian.ensemble.weights import resample
from gibbsian.evaluate.backbone import rmsf
from gibbsian.evaluate.embedding import fit_embedding, torsion_features
from gibbsian.evaluate.lowest import Lowest, lowest_energies
from gibbsian.report.backbone import POINTS, Curve, Points, embedding, fluctuations, lowest_traces
from gibbsian.report.novel import novel_section
from gibbsian.report.rounding import INFINITE, MISSING, fixed, percent, plain, with_error
from gibbsian.report.views import View, Views

LEAST_EFFECTIVE = 10
"""Effective samples below which an ensemble has no fluctuations to show."""


def protein(
    results: Mapping[str, Any],
    shown: Views,
    start: NDArray[np.floating] | None,
    novel: NDArray[np.floating] | None = None,
) -> dict[str, Any] | None:
    """Return what the template needs; None for a molecule below four alpha carbons.

    Parameters
    ----------
    results
        Content of results.json; its ``backbone`` is from `gibbsian.evaluate.protein.backbone`.
    shown
        What is drawn.
    start
        (n_atoms, 3) nm, the structure that conformations of low energy are compared with.
    novel
        (2 k, n_atoms, 3) nm, structures that resemble no training data, each with the frame nearest to it.
    """
    found = results.get("backbone")
    if not found:
        return None
    compared = [view for view in (shown.data, shown.proposal, shown.result) if view is not None]
    return {
        "rows": backbone_rows(found),
        "fluctuations": _fluctuations(compared),
        "embedding": _embedding(compared) if shown.data is not None else None,
        "lowest": _low_energies(shown, start),
        "novel": novel_section(found.get("novel"), _traces(shown, novel)),
    }


def _traces(shown: Views, x: NDArray[np.floating] | None) -> NDArray[np.floating] | None:
    known = shown.known()
    return None if x is None or not known else x[:, alpha_carbons(known[0].ensemble.topology)]


def backbone_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return quantity, and its value in the data, in conformations as generated, and reweighted."""
    distances = {row["name"]: row for row in found["distances"]}
    rows: list[tuple[str, ...]] = []
    for name, words in (("delta_d", "Delta-D / Å"), ("delta_mean", "Difference of mean distances / Å")):
        generated, weighted = (distances.get(f"{name}_backbone{tail}") for tail in ("_unweighted", ""))
        if weighted:
            values = (weighted["floor"], generated["value"] if generated else None, weighted["value"])
            rows.append((words, *(_hundredths(value) for value in values)))
    sides = [found["clashes"]["data"], found["clashes"]["ensemble"]]
    for key, words in (("any", "Conformations with a clash"), ("backbone", "Clashes of the backbone")):
        rows.append((words, *(percent(side[key]) if side else MISSING for side in sides), MISSING))
    return rows + _energy_rows(found["energy"]["data"], found["energy"]["ensemble"])


def _energy_rows(data: Mapping[str, Any] | None, ensemble: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Return the rows of energies; what is not finite is infinite."""
    if ensemble is None:
        return []
    weighted = [MISSING if side is None else with_error(**side["weighted"]) for side in (data, ensemble)]
    rows: list[tuple[str, ...]] = [("Mean energy / kT", weighted[0], _energy(ensemble["all"]["mean"]), weighted[1])]
    for words, group, key in (
        ("Standard deviation / kT", "all", "sd"),
        ("Median energy / kT", "quantiles", "0.5"),
        ("99.9 % quantile / kT", "quantiles", "0.999"),
        ("Mean of the lower half / kT", "lower_half", "mean"),
    ):
        values = (MISSING if side is None else _energy(side[group][key]) for side in (data, ensemble))
        rows.append((words, *values, MISSING))
    return rows + _peak_rows(ensemble.get("peaks") or [])


def _peak_rows(peaks: list[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return where the energies as generated have several Gaussians the share of each, and its population."""
    if len(peaks) < 2:
        return []
    words = "Gaussian of the energies at {} ± {} kT"
    return [
        (
            words.format(plain(peak["mean"], 3), plain(peak["sd"], 2)),
            MISSING,
            percent(peak["share"]),
            with_error(**peak["population"]),
        )
        for peak in peaks
    ]


def _energy(value: float | None) -> str:
    return INFINITE if value is None else plain(value, 3)


def _hundredths(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _fluctuations(compared: list[View]) -> str | None:
    """Fluctuations of what has enough effective samples; None where nothing has."""
    curves = [
        Curve(view.title, view.colour, rmsf(view.ensemble)) for view in compared if view.ensemble.ess >= LEAST_EFFECTIVE
    ]
    return fluctuations(curves) if curves else None


def _embedding(compared: list[View]) -> str:
    """Place conformations, drawn by weight, in the plane of the data, which come first."""
    plane = fit_embedding(compared[0].ensemble)
    sets = []
    for view in compared:
        of = view.ensemble
        rows = resample(of.weights, min(POINTS, len(of)))
        sets.append(Points(view.title, view.colour, plane.transform(torsion_features(of.topology, of.positions[rows]))))
    return embedding(sets)


def _lowest(view: View, start: NDArray[np.floating]) -> Lowest | None:
    """Lowest energies of a set of conformations, whatever their weights; None where no energy is known."""
    u = view.ensemble.u
    return None if u is None or not np.isfinite(u).any() else lowest_energies(view.ensemble, start)


def _low_energies(shown: Views, start: NDArray[np.floating] | None) -> dict[str, Any] | None:
    """Overlay of the lowest energies of the result, and the tables of the result and of the data."""
    if start is None:
        return None
    views = {"Samples": shown.result, "Data": shown.data}
    found = {title: chosen for title, view in views.items() if view and (chosen := _lowest(view, start)) is not None}
    if shown.result is None or "Samples" not in found:
        return None
    first, carbons = found["Samples"], alpha_carbons(shown.result.ensemble.topology)
    reference, traces = start[carbons].astype(np.float64), first.positions[:, carbons].astype(np.float64)
    return {
        "traces": lowest_traces(reference, traces, first.energies),
        "tables": [(title, lowest_rows(chosen)) for title, chosen in found.items()],
        "side_chains": bool(np.isfinite(first.chi1).any()),
    }


def lowest_rows(lowest: Lowest) -> list[dict[str, str]]:
    """Return energy / kJ/mol, RMSD / nm of alpha carbons and heavy atoms, chi1 agreement and clashes, as text."""
    return [
        {
            "energy": fixed(row["energy"], 1),
            "ca": f"{row['rmsd_ca']:.3f}",
            "heavy": f"{row['rmsd_heavy']:.3f}",
            "chi1": percent(row["chi1_agreement"]),
            "clashes": plain(row["clashes"]),
        }
        for row in lowest.rows()
    ]
