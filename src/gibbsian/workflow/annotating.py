"""Energies of every frame of a user's trajectory, kept as an ensemble."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gibbsian.chem.library import resolve
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.formats import FORMATS, rounding_warning
from gibbsian.ensemble.readers import read_frames
from gibbsian.ensemble.store import MANIFEST, load
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.workflow.energies import annotate, annotation_key, discard
from gibbsian.workflow.system import model_of


def annotate_trajectory(
    trajectory: Path,
    topology: str | None,
    output: Path,
    choices: dict[str, Any],
    engine: str = "auto",
    report: Report = silent,
) -> Iterator[str]:
    """Compute the energy of every frame, write an ensemble folder, and yield what the user should know.

    The same call continues where an earlier one ended. The folder has positions, ``u`` and equal weights; its
    provenance says of which system the energies are, so that `import` need not compute them again.

    Parameters
    ----------
    trajectory
        What `gibbsian.ensemble.readers.read_frames` reads.
    topology
        The molecule: a PDB or mmCIF file with the trajectory's atoms, a sequence or a built-in name; None where the
        trajectory is a PDB or mmCIF file itself.
    output
        Ensemble folder.
    choices
        Force field, solvent, cutoff and temperature as `gibbsian.chem.library.resolve` takes them.
    engine, report
        As in `gibbsian.workflow.energies.annotate`.

    Raises
    ------
    InputError
        If something cannot be read, is another molecule, or `output` is in use for something else.
    """
    if trajectory.is_dir():
        raise InputError(f"{trajectory}: is a folder; give a trajectory file, or `import` the ensemble into a run")
    system = resolve(_structure(trajectory, topology), **choices)
    found = read_frames(trajectory, system.topology, names=_names(topology))
    yield f"{system.sequence}  {len(found.positions)} frames of {trajectory.name}  {model_of(system)}  -> {output}"
    yield from (f"changed: {change}" for change in system.changes)
    if found.relabelled:
        yield f"hydrogens relabelled in {found.relabelled} frames"
    warning = rounding_warning(trajectory.name, found.rounding)
    if warning:
        yield warning
    key = annotation_key(system, found.positions, engine)
    parts = output / "parts"
    if _is_finished(output, key):
        discard(parts)
        yield f"{output} has these energies already"
        return
    u = annotate(system, found.positions, parts, engine, report)
    Ensemble(
        positions=found.positions,
        log_w=np.zeros(len(u)),
        topology=system.topology,
        temperature=system.temperature,
        u=u,
        lineage=np.zeros(len(u), dtype=np.int64),
        provenance={
            "source": trajectory.name,
            "relabelled": found.relabelled,
            "rounding": found.rounding,
            "annotation": {"key": key, "system": system.key, "engine": engine},
        },
    ).save(output)
    discard(parts)
    broken = int((~np.isfinite(u)).sum())
    if broken:
        yield f"{broken} frames have no finite energy"
    yield f"energies of {len(u)} frames: {output}"


def _structure(trajectory: Path, topology: str | None) -> str:
    if topology is not None:
        return topology
    if trajectory.suffix.lower() in (".pdb", ".ent", ".cif", ".mmcif", ".pdbx"):
        return str(trajectory)
    raise InputError(f"{trajectory}: does not say which molecule it is of; give --topology (PDB, mmCIF or sequence)")


def _names(topology: str | None) -> Path | None:
    """Return the file that names the atoms of the trajectory, where the molecule was given by one."""
    named = {suffix for one in FORMATS if one.self_contained for suffix in one.suffixes}
    return Path(topology) if topology is not None and Path(topology).suffix.lower() in named else None


def _is_finished(output: Path, key: str) -> bool:
    if not (output / MANIFEST).exists():
        return False
    if load(output).provenance.get("annotation", {}).get("key") != key:
        raise InputError(f"{output}: holds another ensemble; delete it or choose another folder with -o")
    return True
