"""Ensembles on disk: a folder of `.npy` arrays and a manifest that vouches for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.files import read_json, sha256, write_array, write_json

FORMAT = "gibbsian-ensemble-1"
MANIFEST = "manifest.json"
ARRAYS = ("positions", "log_w", "u", "log_q", "lineage")
DRAWS = "draws"
"""Sub-folder of the generator's draws, itself the folder of an ensemble."""


def save(ensemble: Ensemble, folder: Path | str) -> None:
    """Write an ensemble into a folder (made if missing, an older ensemble in it replaced).

    The manifest goes away first and comes back last, so that a folder with a manifest is complete.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / DRAWS):
            (place / MANIFEST).unlink(missing_ok=True)
            for name in ARRAYS:
                (place / f"{name}.npy").unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror}); choose another folder") from error
    entries = {}
    for name in ARRAYS:
        array = getattr(ensemble, name)
        if array is not None:
            path = folder / f"{name}.npy"
            write_array(path, array)
            entries[name] = {"file": path.name, "shape": list(array.shape), "sha256": sha256(path)}
    if ensemble.draws is not None:
        save(ensemble.draws, folder / DRAWS)
    manifest = {
        "format": FORMAT,
        "temperature": ensemble.temperature,
        "arrays": entries,
        "topology": ensemble.topology.to_dict(),
        "provenance": dict(ensemble.provenance),
    }
    if ensemble.draws is not None:
        manifest["draws"] = DRAWS
    write_json(folder / MANIFEST, manifest)


def load(folder: Path | str) -> Ensemble:
    """Read an ensemble that `save` wrote, checking every array against the manifest.

    Raises
    ------
    InputError
        If something is missing, damaged or of another format.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.exists():
        raise InputError(f"{folder}: no {MANIFEST}; give the folder of a finished ensemble")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: not an ensemble manifest of format {FORMAT}; give the folder of an ensemble")
    try:
        arrays = {name: _array(folder, entry) for name, entry in manifest["arrays"].items()}
        return Ensemble(
            positions=arrays["positions"],
            log_w=arrays["log_w"],
            topology=Topology.from_dict(manifest["topology"]),
            temperature=float(manifest["temperature"]),
            u=arrays.get("u"),
            log_q=arrays.get("log_q"),
            lineage=arrays.get("lineage"),
            provenance=manifest["provenance"],
            draws=load(folder / DRAWS) if manifest.get("draws") else None,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: incomplete ({error} missing or of a wrong kind); make the ensemble anew") from error


def _array(folder: Path, entry: Mapping[str, Any]) -> NDArray[Any]:
    # The name only: a manifest that somebody hands over must not point outside its folder.
    path = folder / Path(entry["file"]).name
    if not path.is_file():
        raise InputError(f"{path}: missing though the manifest lists it; copy the whole folder or make it anew")
    if sha256(path) != entry["sha256"]:
        raise InputError(f"{path}: damaged, its SHA-256 is not the one in the manifest; make the ensemble anew")
    return np.load(path, allow_pickle=False)
