"""Which figures a run has: from its ensembles, results and log to SVG strings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import ramachandran, residue_label
from gibbsian.report import figures
from gibbsian.report.figures import Series
from gibbsian.report.tables import DISTANCES

LOSSES = {"nll": "training", "held_out": "held-out frames"}
"""Keys of the training log that are drawn."""

MOST_RESIDUES = 12
"""Ramachandran plots beyond this are left out: the page stays readable and small."""


@dataclass(frozen=True)
class Samples:
    """The samples that can be drawn: finite coordinates, with normalised weights or none at all."""

    ensemble: Ensemble
    weighted: bool


def drawable(ensemble: Ensemble) -> Samples:
    """Leave out conformations with coordinates that are not finite; note whether any weight is left."""
    finite = np.isfinite(ensemble.positions).all(axis=(1, 2))
    kept = ensemble if finite.all() else ensemble.take(finite)
    return Samples(kept, bool(np.isfinite(kept.log_w).any()))


def ramachandran_plots(samples: Samples, data: Ensemble | None, data_name: str) -> tuple[list[tuple[str, str]], int]:
    """Return (residue, SVG) for each residue with phi and psi, and how many residues were left out."""
    ensemble = samples.ensemble
    residues, angles = ramachandran(ensemble.topology, ensemble.positions)
    _, data_angles = (residues, None) if data is None else ramachandran(data.topology, data.positions)
    plots = []
    for place, residue in enumerate(residues.tolist()[:MOST_RESIDUES]):
        phi, psi = angles[:, place].T
        equal = np.ones(len(phi))
        panels = [("proposal, as drawn", phi, psi, equal)]
        if data is not None and data_angles is not None:
            panels.insert(0, (data_name, *data_angles[:, place].T, data.weights))
        if samples.weighted:
            panels.insert(0, ("reweighted", phi, psi, ensemble.weights))
        label = residue_label(ensemble.topology, residue)
        plots.append((label, figures.ramachandran(panels, label)))
    return plots, max(len(residues) - MOST_RESIDUES, 0)


def energy_plot(samples: Samples, data: Ensemble | None, data_name: str) -> tuple[str, float] | None:
    """Return the histogram and the fraction of proposals beyond its axis; None without energies."""
    u = samples.ensemble.u
    if u is None or not samples.weighted:
        return None
    kept = samples.ensemble.weights > 0
    reweighted: Series = (u[kept], samples.ensemble.weights[kept])
    other: Series | None = None
    if data is not None and data.u is not None:
        known = np.isfinite(data.u) & (data.weights > 0)
        other = (data.u[known], data.weights[known])
    _, high = figures.energy_range(reweighted, u, other)
    beyond = float(np.mean(~(u <= high)))
    return figures.energy_histogram(reweighted, np.where(np.isfinite(u), u, np.inf), other, data_name), beyond


def weight_plots(samples: Samples) -> list[str]:
    """Return the diagnostics of the weights; none for simulation data, which have no importance weights."""
    log_w = samples.ensemble.log_w
    finite = log_w[np.isfinite(log_w)]
    if samples.ensemble.log_q is None or len(finite) < 50 or np.ptp(finite) == 0:
        return []
    return [
        figures.log_weight_histogram(finite),
        figures.largest_weights(finite),
        figures.ess_against_n(log_w),
    ]


def training_plot(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the training curves; None where the log has none."""
    curves = {label: key for key, label in LOSSES.items() if any(entry.get(key) is not None for entry in log)}
    return figures.training_curves(log, "step", curves) if curves else None


def basin_plot(results: Mapping[str, Any]) -> str | None:
    """Return the figure of the basins that have a value."""
    rows = [row for row in results.get("basins") or () if (row.get("free_energy") or {}).get("value") is not None]
    return figures.basin_free_energies(rows) if rows else None


def distance_plot(results: Mapping[str, Any]) -> str | None:
    """Return the figure of the distances that have a floor."""
    rows = [
        row | {"name": DISTANCES.get(row["name"], row["name"])}
        for row in results.get("distances") or ()
        if row.get("value") is not None and row.get("floor")
    ]
    return figures.distances(rows) if rows else None


def ladder_plot(simulation: Mapping[str, Any]) -> str | None:
    """Return the acceptance of each exchange; None where it is not known."""
    temperatures, acceptance = simulation.get("temperatures") or (), simulation.get("acceptance") or ()
    if len(temperatures) < 2 or len(acceptance) != len(temperatures) - 1:
        return None
    return figures.ladder(temperatures, acceptance)
