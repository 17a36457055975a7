"""What a simulation folder says about itself, so that another simulation is never continued by mistake."""

import dataclasses
from pathlib import Path
from typing import Any

from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.errors import InputError
from gibbsian.files import read_json, write_json

_MAY_GROW = "steps"
_BEFORE = {"start_structure": 0.0}
"""What settings were before there was a choice."""


def describe(system: System, settings: ExchangeSettings) -> dict[str, Any]:
    """Return the manifest of a simulation: everything that decides its bits."""
    plain = dataclasses.asdict(settings)
    plain["temperatures"] = list(settings.temperatures or ())
    return {"format": 1, "system": dict(system.key), "n_atoms": system.n_atoms, "settings": plain}


def settings_of(manifest: dict[str, Any]) -> ExchangeSettings:
    """Read the settings back."""
    values = dict(manifest["settings"])
    values["temperatures"] = tuple(values["temperatures"])
    return ExchangeSettings(**values)


def claim(folder: Path, wanted: dict[str, Any]) -> None:
    """Write the manifest; refuse a folder of another simulation."""
    if (folder / "manifest.json").exists():
        found = read_json(folder / "manifest.json")
        refuse_other(folder, found, wanted)
        if found["settings"][_MAY_GROW] >= wanted["settings"][_MAY_GROW]:
            return
    write_json(folder / "manifest.json", wanted)


def refuse_other(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `InputError` unless two manifests describe the same simulation, up to its length."""
    for part in ("system", "settings"):
        for name, value in wanted[part].items():
            there = found.get(part, {}).get(name, _BEFORE.get(name))
            if name != _MAY_GROW and there != value:
                raise InputError(
                    f"{folder}: holds a simulation with {name} {there}, not {value}; choose another folder or delete it"
                )
