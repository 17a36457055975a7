"""`gibbsian umbrella`: windows on one or two torsions."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from gibbsian.cli.console import Watch


def umbrella(
    source: str,
    torsions: list[str],
    output: Path,
    choices: dict[str, Any],
    given: dict[str, float | int | None],
    threads: int | None,
    max_time: float | None,
) -> None:
    """Simulate the windows and print profiles and basins; `given` are settings, None where left open."""
    from gibbsian.dynamics.umbrella import UmbrellaSettings
    from gibbsian.workflow.umbrella import build, run_umbrella

    settings = UmbrellaSettings(
        tuple(torsions),
        **{name: value for name, value in given.items() if value is not None},  # pyright: ignore
    )
    system = build(source, choices)
    with Watch(max_time) as watch:
        watch.say(f"{system.sequence}  {system.n_atoms} atoms  {system.temperature:g} K  -> {output}")
        for change in system.changes:
            watch.say(f"changed: {change}")
        result = run_umbrella(system, settings, output, watch.report("umbrella"), threads)
        for name, profile in result.profiles.items():
            sys.stdout.write(f"# {name} (degrees)  free energy (kT)  error\n")
            columns = (np.degrees(profile.centres), profile.free_energy, profile.error)
            for centre, free, error in zip(*columns, strict=True):
                sys.stdout.write(f"{centre:7.1f} {free:9.3f} {error:8.3f}\n")
        if result.basins:
            sys.stdout.write("# basin  -ln(P/(1-P)) (kT)  error\n")
        for name, (value, error) in result.basins.items():
            sys.stdout.write(f"{name:12} {value:9.3f} {error:8.3f}\n")
        for warning in result.warnings:
            watch.say(f"warning: {warning}")
