"""A user's own trajectory in place of simulated data."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.formats import rounding_warning
from gibbsian.ensemble.readers import read_ensemble
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.workflow.energies import annotate, discard
from gibbsian.workflow.run import Run, perform
from gibbsian.workflow.stages import STAGES


def import_trajectory(
    run: Run, trajectory: Path, topology: Path | None = None, report: Report = silent
) -> Iterator[str]:
    """Read, relabel and annotate a trajectory, make it the run's data, and yield what the user should know.

    Energies are computed with the run's own force field, unless `annotate` has done so; hydrogens get the package's
    labels. The same call continues where an earlier one ended.

    Parameters
    ----------
    run
        Without data.
    trajectory
        What `gibbsian.ensemble.readers.read_ensemble` reads.
    topology
        File that names the atoms of a trajectory that does not; without it they must come in the run's order.
    report
        Called after each batch of energies.

    Raises
    ------
    InputError
        If the file is of another molecule, has broken coordinates, or the run has data already.
    """
    if "simulate" in run.folder.record()["stages"]:
        raise InputError(f"{run.folder.path}: the run has data already; import into a new folder")
    perform(run, STAGES[:1])
    system = run.system
    found = read_ensemble(trajectory, topology=system.topology, names=topology, temperature=system.temperature)
    if relabelled := found.provenance.get("relabelled"):
        yield f"hydrogens relabelled in {relabelled} frames"
    warning = rounding_warning(trajectory.name, found.provenance.get("rounding"))
    if warning:
        yield warning
    parts = run.folder.path / "annotation"
    known = found.u is not None and found.provenance.get("annotation", {}).get("system") == system.key
    u = found.u if known else annotate(system, found.positions, parts, report=report)
    _keep(run, replace(found, u=u))
    discard(parts)
    yield f"{len(found)} frames of {trajectory.name} are the data of {run.folder.path}"


def _keep(run: Run, data: Ensemble) -> None:
    stage = STAGES[1]
    data.save(run.folder.data)
    run.folder.note(stage.name, run.digest(*stage.depends), imported=True, frames=len(data))
