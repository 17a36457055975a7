"""From one trajectory format, or an ensemble folder, to another format."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gibbsian.dynamics.collect import load_simulation
from gibbsian.dynamics.shards import group_folder
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import CHUNK, write_trajectory
from gibbsian.ensemble.formats import format_of
from gibbsian.ensemble.readers import read_ensemble, read_frames
from gibbsian.ensemble.weights import resample
from gibbsian.workflow.run import settings_of
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.system import build_system


def convert(
    source: Path, target: Path, topology: Path | None = None, n: int | None = None, seed: int = 0
) -> Iterator[str]:
    """Write the frames of `source` to `target`, whose ending says the format, and yield what the user should know.

    Parameters
    ----------
    source
        Ensemble folder, the simulation data of a run, or what `gibbsian.ensemble.readers.read_frames` reads.
    target
        ``.pdb``, ``.cif``, ``.xtc``, ``.dcd`` or ``.h5``.
    topology
        PDB, mmCIF or HDF5 file that names the atoms, for a source that does not.
    n
        Draw so many frames by their weights (systematic resampling), in place of all frames as they are.
    seed
        Of the drawing.

    Raises
    ------
    InputError
        If one cannot be read or the other not written.
    """
    kind = format_of(target)
    if source.is_dir():
        ensemble = _simulated(source) or read_ensemble(source, topology=topology)
        positions, found, weights = ensemble.positions, ensemble.topology, ensemble.weights
    else:
        frames = read_frames(source, topology)
        positions, found = frames.positions, frames.topology
        weights = np.full(len(positions), 1.0 / len(positions))
        if frames.relabelled:
            yield f"hydrogens relabelled in {frames.relabelled} frames"
    index = np.arange(len(positions)) if n is None else resample(weights, n, seed=seed)
    if n is None and np.ptp(weights) > 1e-12 / len(weights):
        yield f"warning: {target.name} has no weights; draw frames by weight with -n"
    count = write_trajectory(target, found, _pieces(positions, index))
    yield f"{count} frames in {target}"
    if kind.rounding is not None:
        yield f"{kind.name} rounds coordinates to {kind.rounding:g} nm: compute no weights from {target.name}"


def _simulated(folder: Path) -> Ensemble | None:
    """Frames of all walkers and temperatures, weighted to the run's; None for another folder."""
    if not group_folder(folder, 0).exists():
        return None
    settings = resolve_settings(settings_of(folder.parent), str(folder.parent / "run.yaml"))
    return load_simulation(folder, build_system(settings.system, folder.parent / "system"))


def _pieces(positions: NDArray[np.float32], index: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(index), CHUNK):
        yield positions[index[start : start + CHUNK]]
