"""The report: one HTML file that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.convert import pdb_string
from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.reference import Reference
from gibbsian.files import write_text
from gibbsian.report import drawings, figures
from gibbsian.report.citations import citations, readable
from gibbsian.report.comparison import comparison
from gibbsian.report.correction import correction_rows
from gibbsian.report.energy_training import energy_training_rows
from gibbsian.report.headline import headline, key_numbers
from gibbsian.report.methods import methods
from gibbsian.report.protein import protein
from gibbsian.report.reconstruction import reconstructed
from gibbsian.report.rounding import grouped, plain
from gibbsian.report.svg import DARK, LIGHT, PRINT, variables
from gibbsian.report.tables import (
    basin_rows,
    basins_left_out,
    distance_rows,
    observable_rows,
    performance_rows,
    reference_note,
    simulation_rows,
)
from gibbsian.report.temperatures import temperature_plot, temperature_rows
from gibbsian.report.viewer import representatives
from gibbsian.report.views import View, views

MODELS = 20
"""Conformations in the 3-D view."""
_MOST_ATOMS = 20_000
"""Atoms in the 3-D view; beyond, fewer conformations are shown so that the page stays small."""


def write_report(
    path: Path,
    results: dict[str, Any],
    ensemble: Ensemble,
    data: Ensemble | None,
    training_log: list[dict[str, Any]],
    info: dict[str, Any],
    certified: Reference | None = None,
    annealing_log: Sequence[Mapping[str, Any]] = (),
    start: NDArray[np.floating] | None = None,
    novel: NDArray[np.floating] | None = None,
) -> None:
    """Write the page atomically.

    Parameters
    ----------
    path
        The HTML file.
    results
        Content of results.json.
    ensemble
        Weighted samples; those of weight zero may be among them.
    data
        Simulation data to compare with, weighted to the same temperature.
    training_log
        One mapping for each logged step: ``step``, ``stage``, ``nll``, ``held_out``.
    info
        What the run was; every key is optional. ``system``: ``sequence``, ``termini``, ``forcefield``,
        ``solvent``, ``cutoff`` (nm), ``temperature`` (K), ``n_atoms``, ``changes``. ``recipe``, ``seed``,
        ``command``.
        ``simulation``: ``temperatures`` (K), ``acceptance`` (one per pair of neighbours), ``round_trips``,
        ``ladders``, ``aggregate_ns``, ``frames``, ``timestep`` (ps), ``friction`` (1/ps); further numbers are
        shown as they are. ``training``: ``parameters``, ``stages`` (``name``, ``steps``, ``keep``).
        ``versions``: name to version.
    certified
        What is known of the system, for the figures; its numbers are in `results`.
    annealing_log
        One mapping for each step of a training on energies, as in ``annealing.jsonl``.
    start
        (n_atoms, 3) nm, the structure that the run began with; of a protein, low energies are compared with it.
    novel
        (2 k, n_atoms, 3) nm, structures that resemble no training data, each with the frame nearest to it.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_text(path, render(results, ensemble, data, training_log, info, certified, annealing_log, start, novel))


def render(
    results: dict[str, Any],
    ensemble: Ensemble,
    data: Ensemble | None,
    training_log: list[dict[str, Any]],
    info: dict[str, Any],
    certified: Reference | None = None,
    annealing_log: Sequence[Mapping[str, Any]] = (),
    start: NDArray[np.floating] | None = None,
    novel: NDArray[np.floating] | None = None,
) -> str:
    """Return the page as text; equal arguments give equal text. Arguments as in `write_report`."""
    simulation = info.get("simulation") or {}
    shown = views(ensemble, data, _data_name(simulation))
    plots, left_out = drawings.torsion_plots(shown, certified)
    context = {
        "palettes": {"light": variables(LIGHT), "dark": variables(DARK), "print": variables(PRINT)},
        "headline": headline(results),
        "numbers": key_numbers(results, ensemble.provenance),
        "torsions": plots,
        "residues_left_out": left_out,
        "energy": drawings.energy_plot(shown),
        "transported": shown.transported is not None,
        "protein": protein(results, shown, start, novel),
        "reconstruction": reconstructed(results, shown),
        "pair_distances": drawings.pair_distance_plot(shown),
        "basins": basin_rows(results),
        "basins_left_out": basins_left_out(results),
        "reference_note": reference_note(results),
        "certified": (results.get("reference") or {}).get("source") == "certified",
        "comparison": comparison(results),
        "basin_plot": drawings.basin_plot(results),
        "observables": observable_rows(results),
        "distances": distance_rows(results),
        "distance_plot": drawings.distance_plot(results),
        "weights": drawings.weight_plots(ensemble),
        "by_ancestor": "ancestors" in ensemble.provenance,
        "correction": correction_rows(ensemble.provenance),
        "method": ensemble.provenance.get("method"),
        "annealing": drawings.annealing_plot(ensemble),
        "training": drawings.training_plot(training_log),
        "energy_training": drawings.energy_training_plot(annealing_log),
        "energy_training_rows": energy_training_rows(annealing_log),
        "temperatures": temperature_rows(results),
        "temperature_plot": temperature_plot(results),
        "ladder": drawings.ladder_plot(simulation),
        "simulation": simulation_rows(simulation),
        "performance": performance_rows(results.get("performance") or {}),
        "models": _models(shown.result),
        "methods": methods(results, info),
        "reading": readable(info),
        "bibtex": citations(info),
        "versions": info.get("versions") or {},
        "command": info.get("command"),
        "title": (info.get("system") or {}).get("sequence") or results.get("system") or "Ensemble",
        "setting": " · ".join(_setting(results, info.get("system") or {})),
        "has_data": data is not None,
    }
    return _template().render(context)


def _data_name(simulation: Mapping[str, Any]) -> str:
    """Return what the figures call the data."""
    if not simulation:
        return "given data"
    return "data: dynamics" if len(simulation.get("temperatures") or ()) == 1 else "data: replica exchange"


def _setting(results: Mapping[str, Any], system: Mapping[str, Any]) -> list[str]:
    """Return what the line below the title says, as far as it is known."""
    parts = []
    if system.get("forcefield"):
        solvent = system.get("solvent")
        parts.append(f"{system['forcefield']} {'in vacuum' if solvent == 'vacuum' else f'with {solvent}'}")
    if system.get("temperature"):
        parts.append(f"{plain(system['temperature'])} K")
    if system.get("n_atoms"):
        parts.append(f"{grouped(system['n_atoms'])} atoms")
    parts.extend(f"{name} {results[name]}" for name in ("recipe", "seed") if results.get(name) is not None)
    return parts


def _models(result: View | None) -> Mapping[str, Any] | None:
    """Text for 3Dmol and the drawing that stands in for it."""
    if result is None:
        return None
    topology: Topology = result.ensemble.topology
    shown = representatives(result.ensemble, max(1, min(MODELS, _MOST_ATOMS // topology.n_atoms)))
    return {
        "pdb": pdb_string(topology, shown),
        "bonds": topology.bonds.tolist(),
        "n": len(shown),
        "cartoon": topology.n_residues > 14,
        "small": topology.n_atoms < 40,
        "drawing": figures.sticks(shown, topology.bonds, topology.elements),
        "script": _text("vendor/3Dmol-min.js"),
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("template.html"))


def _text(name: str) -> str:
    return files("gibbsian.report").joinpath(name).read_text(encoding="utf-8")
