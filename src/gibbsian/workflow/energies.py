"""Energies of conformations that a user brings."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.chem.library import resolve
from gibbsian.chem.system import System
from gibbsian.ensemble.formats import rounding_warning
from gibbsian.ensemble.readers import read_frames
from gibbsian.errors import InputError
from gibbsian.files import read_json, write_array, write_json
from gibbsian.potentials import potential
from gibbsian.progress import Report, silent
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.threads import one_thread
from gibbsian.workflow.runfolder import RunFolder, digest, hold

BATCH = 1000
"""Conformations at a time, for small molecules."""

PAIRS = 50_000_000
"""Pairs of atoms in a batch of a large one, so that a stop never waits long."""

PARTS = "parts.json"


def energies(
    structure: Path, frames: Path | None, engine: str, choices: dict[str, Any], warn: Callable[[str], None]
) -> NDArray[np.float64]:
    """Potential energies in kJ/mol of a structure, or of all frames of a trajectory of it.

    `warn` is told if the frames are rounded.

    Raises
    ------
    InputError
        If the structure is not a molecule that the package treats, or the frames are of another one.
    """
    system = resolve(str(structure), **choices)
    x = system.positions[None]
    if frames is not None:
        found = read_frames(frames, system.topology)
        x = found.positions
        if warning := rounding_warning(frames.name, found.rounding):
            warn(warning)
    evaluate, size = potential(system, engine=engine), _batch_size(system.n_atoms)
    parts = [
        evaluate.energy_and_force(torch.from_numpy(x[start : start + size]).double())[0]
        for start in range(0, len(x), size)
    ]
    return torch.cat(parts).numpy()


def annotate(
    system: System, positions: NDArray[np.float32], folder: Path, engine: str = "auto", report: Report = silent
) -> NDArray[np.float64]:
    """Reduced energies of conformations, computed in the background while each finished batch goes to disk.

    The same call on the same folder continues after any kind of end. `discard` deletes the folder once the energies
    are somewhere else.

    Parameters
    ----------
    system, positions
        What the energies are of: (n, n_atoms, 3) nm, hydrogens with the package's labels.
    folder
        Of the batches; made if missing.
    engine
        As in `gibbsian.potential`; double precision.
    report
        Called after each batch.

    Returns
    -------
    (n,) U/kT; inf where an energy is not finite.

    Raises
    ------
    InputError
        If the folder cannot be written, is in use, or holds energies of other frames or another force field.
    """
    size = _batch_size(system.n_atoms)
    with one_thread():  # a wrong engine leaves no folder behind
        target = Boltzmann(potential(system, engine=engine), system.temperature)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror}); choose another folder with -o") from error
    with hold(RunFolder(folder)), one_thread():
        _claim(folder, {"key": annotation_key(system, positions, engine), "batch": size})

        def evaluate(start: int) -> NDArray[np.float64]:
            return target.u(torch.from_numpy(positions[start : start + size]).double()).numpy()

        u = np.empty(len(positions))
        starts = range(0, len(positions), size)
        paths = {start: folder / f"{start:09d}.npy" for start in starts}
        worker = ThreadPoolExecutor(1)
        try:
            jobs = {start: worker.submit(evaluate, start) for start in starts if not paths[start].exists()}
            for start in starts:
                if start in jobs:
                    write_array(paths[start], jobs.pop(start).result())
                part = np.load(paths[start], allow_pickle=False)
                u[start : start + size] = part
                report(start + len(part), len(positions))
        finally:
            worker.shutdown(cancel_futures=True)
    return u


def annotation_key(system: System, positions: NDArray[np.float32], engine: str) -> str:
    """Hash of everything that reduced energies depend on."""
    frames = sha256(np.ascontiguousarray(positions).data).hexdigest()
    return digest([system.key, engine, list(positions.shape), frames])


def discard(folder: Path) -> None:
    """Delete the batches of `annotate`."""
    shutil.rmtree(folder, ignore_errors=True)


def _claim(folder: Path, mark: dict[str, str | int]) -> None:
    path = folder / PARTS
    if not path.exists():
        write_json(path, mark)
    elif read_json(path) != mark:
        raise InputError(
            f"{folder}: holds energies of other frames or another force field or engine; delete it or choose another"
        )


def _batch_size(n_atoms: int) -> int:
    """Multiple of 16, the lanes of the compiled engine, where the molecule is large."""
    return min(BATCH, max(16, PAIRS // n_atoms**2 // 16 * 16))
