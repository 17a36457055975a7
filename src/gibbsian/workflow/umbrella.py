"""Umbrella windows in a folder: the simulation, its ensemble, a picture, and what a person should know."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gibbsian.chem.library import resolve
from gibbsian.chem.system import System
from gibbsian.dynamics.umbrella import UmbrellaSettings, umbrella, windows_of
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import dihedral
from gibbsian.ensemble.profiles import Profile, angle_profile
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.files import write_bytes
from gibbsian.progress import Report, silent

POOR_OVERLAP = 0.03
"""Below this, neighbours in MBAR's overlap matrix share too little (J. Comput. Aided Mol. Des. 29, 397 (2015))."""


@dataclass(frozen=True, eq=False)
class UmbrellaResult:
    """What umbrella windows gave.

    Attributes
    ----------
    ensemble
        The unbiased ensemble.
    profiles
        Free energy along each torsion, by its name.
    basins
        Free energy -ln(P/(1-P)) of each basin, kT.
    warnings
        What speaks against the numbers, one sentence each.
    """

    ensemble: Ensemble
    profiles: dict[str, Profile]
    basins: dict[str, Estimate]
    warnings: tuple[str, ...]


def build(source: str, choices: dict[str, Any]) -> System:
    """Build the system; `choices` as `gibbsian.chem.library.resolve` takes them."""
    if source.endswith((".yaml", ".yml")):
        raise InputError(f"{source}: umbrella takes no run.yaml; give a built-in name, a sequence or a structure file")
    return resolve(source, **choices)


def run_umbrella(
    system: System, settings: UmbrellaSettings, folder: Path, report: Report = silent, threads: int | None = None
) -> UmbrellaResult:
    """Simulate in `folder`/windows, then write `folder`/ensemble and `folder`/profile.png.

    The same call continues; see `gibbsian.dynamics.umbrella.umbrella`.
    """
    from gibbsian.report.profiles import profile_png

    ensemble = umbrella(system, settings, folder / "windows", report, threads=threads)
    ensemble.save(folder / "ensemble")
    windows = windows_of(system, settings.resolved(system.temperature))
    angles = dihedral(ensemble.positions, windows.atoms)
    profiles = {
        name: angle_profile(column, ensemble.log_w, lineage=ensemble.lineage)
        for name, column in zip(settings.torsions, angles.T, strict=True)
    }
    surface = (angles[:, 0], angles[:, 1], ensemble.weights) if len(profiles) == 2 else None
    write_bytes(folder / "profile.png", profile_png(profiles, surface))
    masks = basin_masks(system.topology, ensemble.positions)
    basins = {name: ensemble.free_energy(mask) for name, mask in masks.items()}
    return UmbrellaResult(ensemble, profiles, basins, tuple(_warnings(ensemble)))


def _warnings(ensemble: Ensemble) -> Iterator[str]:
    statistics = ensemble.provenance["statistics"]
    settings = ensemble.provenance["settings"]
    # A ring of m windows whose neighbours share a part p has a gap of 2 p (1 - cos(2 pi / m)).
    overlap = statistics["overlap_gap"] / (2 - 2 * math.cos(2 * math.pi / settings["windows"]))
    if overlap < POOR_OVERLAP:
        yield f"windows overlap as if neighbours shared {overlap:.3f}, below {POOR_OVERLAP}; use more or a smaller k"
    if statistics["resets"]:
        yield f"walkers blew up and were put back {statistics['resets']} times; use a smaller timestep"
    simulated = statistics["frames_per_walker"] * settings["save_every"] * settings["timestep"]
    if (slowest := statistics["statistical_inefficiency_ps"]["largest"]) > simulated / 20:
        yield f"one window needs {slowest:.0f} ps for an independent frame and had {simulated:.0f} ps; use more steps"
