"""The report: one HTML file that needs nothing but itself."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from gibbsian.chem.convert import pdb_string
from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.files import write_text
from gibbsian.report import drawings, figures
from gibbsian.report.citations import citations, readable
from gibbsian.report.comparison import comparison
from gibbsian.report.drawings import Samples
from gibbsian.report.headline import headline, key_numbers
from gibbsian.report.methods import methods
from gibbsian.report.rounding import grouped, percent, plain
from gibbsian.report.tables import (
    basin_rows,
    distance_rows,
    observable_rows,
    performance_rows,
    reference_note,
    simulation_rows,
)
from gibbsian.report.viewer import representatives

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
        shown as they are. ``training``: ``parameters``, ``stages`` (``name``, ``steps``).
        ``versions``: name to version.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_text(path, render(results, ensemble, data, training_log, info))


def render(
    results: dict[str, Any],
    ensemble: Ensemble,
    data: Ensemble | None,
    training_log: list[dict[str, Any]],
    info: dict[str, Any],
) -> str:
    """Return the page as text; equal arguments give equal text. Arguments as in `write_report`."""
    samples = drawings.drawable(ensemble)
    data_name = "replica exchange" if info.get("simulation") else "given data"
    plots, left_out = drawings.ramachandran_plots(samples, data, data_name)
    energy = drawings.energy_plot(samples, data, data_name)
    simulation = info.get("simulation") or {}
    context = {
        "headline": headline(results),
        "numbers": key_numbers(results),
        "ramachandran": plots,
        "residues_left_out": left_out,
        "energy": energy[0] if energy else None,
        "energy_beyond": percent(energy[1]) if energy else None,
        "basins": basin_rows(results),
        "reference_note": reference_note(results),
        "certified": (results.get("reference") or {}).get("source") == "certified",
        "comparison": comparison(results),
        "basin_plot": drawings.basin_plot(results),
        "observables": observable_rows(results),
        "distances": distance_rows(results),
        "distance_plot": drawings.distance_plot(results),
        "weights": drawings.weight_plots(samples),
        "training": drawings.training_plot(training_log),
        "ladder": drawings.ladder_plot(simulation),
        "simulation": simulation_rows(simulation),
        "performance": performance_rows(results.get("performance") or {}),
        "models": _models(samples),
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


def _models(samples: Samples) -> Mapping[str, Any] | None:
    """Text for 3Dmol and the drawing that stands in for it."""
    if not samples.weighted:
        return None
    topology: Topology = samples.ensemble.topology
    shown = representatives(samples.ensemble, max(1, min(MODELS, _MOST_ATOMS // topology.n_atoms)))
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
