"""A user's own trajectory in place of simulated data."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gibbsian.chem.hydrogens import relabel_hydrogens
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.readers import read_ensemble
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.workflow.run import Run, perform
from gibbsian.workflow.stages import STAGES
from gibbsian.workflow.system import target_of

BATCH = 1000
LOSSY = (".xtc", ".pdb")


def import_trajectory(
    run: Run, trajectory: Path, topology: Path | None = None, report: Report = silent
) -> Iterator[str]:
    """Read, relabel and annotate a trajectory, make it the run's data, and yield what the user should know.

    Energies are computed with the run's own force field; hydrogens get the package's labels.

    Raises
    ------
    InputError
        If the file is of another molecule, has broken coordinates, or the run has data already.
    """
    if "simulate" in run.folder.record()["stages"]:
        raise InputError(f"{run.folder.path}: the run has data already; import into a new folder")
    perform(run, STAGES[:1])
    expected = run.system.topology if topology is None else topology
    found = read_ensemble(trajectory, topology=expected, temperature=run.system.temperature)
    if found.topology.atom_names != run.system.topology.atom_names:
        raise InputError(
            f"{trajectory}: its atoms are not those of {run.folder.system / 'topology.pdb'} in that order; reorder them"
        )
    positions = relabel_hydrogens(run.system.topology, found.positions)
    changed = int((positions != found.positions).any(axis=(1, 2)).sum())
    target = target_of(run.system)
    u = np.empty(len(found))
    for start in range(0, len(found), BATCH):
        stop = min(start + BATCH, len(found))
        u[start:stop] = target.u(torch.from_numpy(positions[start:stop]).double()).numpy()
        report(stop, len(found))
    data = replace(found, positions=positions.astype(np.float32), topology=run.system.topology, u=u)
    _keep(run, data)
    yield f"{len(data)} frames of {trajectory.name} are the data of {run.folder.path}"
    if changed:
        yield f"hydrogens relabelled in {changed} frames"
    if trajectory.suffix in LOSSY:
        yield f"{trajectory.suffix} files are rounded: energies of these frames are approximate and serve no weights"


def _keep(run: Run, data: Ensemble) -> None:
    stage = STAGES[1]
    data.save(run.folder.data)
    run.folder.note(stage.name, run.digest(*stage.depends), imported=True, frames=len(data))
