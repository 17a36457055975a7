"""Which figures a run has: from its ensembles, results and log to SVG strings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gibbsian.ensemble.basins import BASINS, classify
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import ramachandran, residue_label
from gibbsian.ensemble.pair_distances import longest_distance, pair_distance_density
from gibbsian.ensemble.profiles import Profile, angle_profile, shares
from gibbsian.ensemble.reference import Reference
from gibbsian.report import correction, distributions, figures, torsions
from gibbsian.report.distributions import Distances, Energies
from gibbsian.report.energy_training import energy_training
from gibbsian.report.svg import INK
from gibbsian.report.tables import DISTANCES
from gibbsian.report.torsions import Marginal
from gibbsian.report.views import View, Views

LOSSES = {"nll": "training", "held_out": "held-out frames"}
"""Keys of the training log that are drawn."""

MOST_RESIDUES = 12
"""Ramachandran plots beyond this are left out: the page stays readable and small."""
CERTIFIED = "certified reference"
_DISTANCE_BINS = 480


def torsion_plots(shown: Views, certified: Reference | None) -> tuple[list[tuple[str, str, str]], int]:
    """Return (residue, Ramachandran SVG, SVG along phi) for each residue, and how many residues were left out."""
    compared = [view for view in (shown.data, shown.proposal, shown.result) if view is not None]
    if not compared:
        return [], 0
    topology = compared[0].ensemble.topology
    angles = [ramachandran(topology, view.ensemble.positions) for view in compared]
    residues = angles[0][0].tolist()
    plots = []
    for place, residue in enumerate(residues[:MOST_RESIDUES]):
        label = residue_label(topology, residue)
        panels, rows = [], []
        for view, (_, values) in zip(compared, angles, strict=True):
            phi, psi = values[:, place].T
            panels.append((view.title, torsions.free_energy_surface(phi, psi, view.ensemble.weights)))
            rows.append(_marginal(view, phi, psi))
        known = None if certified is None else _certified(certified, label)
        if known is not None:
            panels.append((CERTIFIED, known[0]))
            rows.append(known[1])
        plots.append((label, torsions.ramachandran(panels, label), torsions.phi_marginals(rows, label)))
    return plots, max(len(residues) - MOST_RESIDUES, 0)


def _marginal(view: View, phi: np.ndarray, psi: np.ndarray) -> Marginal:
    of = view.ensemble
    masks = classify(phi, psi)
    which = sum(k * masks[name] for k, name in enumerate(BASINS))
    p, error = shares(np.asarray(which), len(BASINS), of.log_w, lineage=of.lineage)
    basins = {name: (float(p[k]), float(error[k])) for k, name in enumerate(BASINS)}
    return Marginal(view.title, view.colour, angle_profile(phi, of.log_w, lineage=of.lineage), basins)


def _certified(reference: Reference, label: str) -> tuple[np.ndarray, Marginal] | None:
    """Return the surface and the marginal of a residue; None where the reference does not know it."""
    histogram = reference.ramachandran.get(label)
    basins = {name: reference.basin(f"{label} {name}") for name in BASINS}
    if histogram is None or any(basin is None for basin in basins.values()):
        return None
    p = histogram.probabilities.sum(axis=1)
    first, last, n = histogram.edges[0]
    with np.errstate(divide="ignore"):
        profile = Profile(np.radians(first + (np.arange(n) + 0.5) * (last - first) / n), -np.log(p / p.max()), 0 * p)
    shared = {name: basin.probability for name, basin in basins.items() if basin is not None}
    found = {name: (estimate.value, estimate.error) for name, estimate in shared.items()}
    return torsions.smoothed_surface(histogram.probabilities.T), Marginal(CERTIFIED, INK, profile, found)


def energy_plot(shown: Views) -> str | None:
    """Return the histogram of energies; None where the result has none."""
    axis = next((view for view in (shown.data, shown.result) if view is not None and _has_energies(view)), None)
    if shown.result is None or axis is None:
        return None
    curves = [
        Energies(view.title, view.colour, view.ensemble.u, view.ensemble.weights)
        for view in shown.known()
        if view.ensemble.u is not None
    ]
    reference = axis.ensemble
    assert reference.u is not None
    return distributions.energy_histogram(curves, distributions.energy_axis(reference.u, reference.weights))


def _has_energies(view: View) -> bool:
    u = view.ensemble.u
    return u is not None and bool((np.isfinite(u) & (view.ensemble.weights > 0)).any())


def pair_distance_plot(shown: Views) -> str | None:
    """Return the densities of the interatomic distances of data, proposal and result."""
    compared = [view for view in (shown.data, shown.proposal, shown.result) if view is not None]
    trusted = shown.data or shown.result
    if trusted is None or trusted.ensemble.topology.n_atoms < 2:
        return None
    longest = longest_distance(trusted.ensemble.positions, trusted.ensemble.weights)
    edges = np.linspace(0.0, 1.05 * longest, _DISTANCE_BINS + 1)
    curves = [
        Distances(view.title, view.colour, pair_distance_density(view.ensemble.positions, view.ensemble.weights, edges))
        for view in compared
    ]
    return distributions.distance_histogram(curves, edges)


def weight_plots(ensemble: Ensemble) -> list[str]:
    """Return the diagnostics of the weights; none for simulation data, which have no importance weights.

    Where particles were resampled, those of the first draws with all their descendants: resampling makes the
    particles' own weights equal, whatever they are worth.
    """
    log_w, counted = ensemble.log_w, "samples"
    if ensemble.lineage is not None and "ancestors" in ensemble.provenance:
        log_w, counted = _by_ancestor(log_w, ensemble.lineage, int(ensemble.provenance["ancestors"])), "ancestors"
    finite = log_w[np.isfinite(log_w)]
    if ensemble.log_q is None or len(finite) < 50 or np.ptp(finite) == 0:
        return []
    return [
        figures.log_weight_histogram(finite, counted),
        figures.largest_weights(finite, counted),
        figures.ess_against_n(log_w, counted),
    ]


def _by_ancestor(log_w: np.ndarray, lineage: np.ndarray, n: int) -> np.ndarray:
    total = np.full(max(n, int(lineage.max()) + 1), -np.inf)
    np.logaddexp.at(total, lineage, log_w)
    return total


def annealing_plot(ensemble: Ensemble) -> str | None:
    """Return the record of the annealing; None where there is none."""
    levels = ensemble.provenance.get("levels")
    return correction.annealing(levels, int(ensemble.provenance["ancestors"])) if levels else None


def training_plot(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the training curves; None where the log has none."""
    curves = {label: key for key, label in LOSSES.items() if any(entry.get(key) is not None for entry in log)}
    return figures.training_curves(log, "step", curves) if curves else None


def energy_training_plot(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the traces of a training on energies; None where there was none."""
    return energy_training(log) if log else None


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
