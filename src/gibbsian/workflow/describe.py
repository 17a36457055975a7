"""What a run was and what it cost, for the report."""

from importlib.metadata import version
from typing import Any

from gibbsian.evaluate.comparison import StageCosts
from gibbsian.workflow.run import Run

LIBRARIES = ("gibbsian", "torch", "openmm", "pdbfixer", "mdtraj", "pymbar", "numpy", "scipy")


def describe(run: Run) -> dict[str, Any]:
    """Return the `info` of `gibbsian.report.page.write_report`."""
    settings = run.settings
    stages = run.folder.record()["stages"]
    simulated = stages["simulate"]
    return {
        "system": {
            **run.system.key,
            "n_atoms": run.system.n_atoms,
            "changes": list(run.system.changes),
        },
        "recipe": settings.recipe,
        "seed": settings.seed,
        "command": f"gibbsian run {run.folder.config} -o {run.folder.path}.again",
        "simulation": None if simulated.get("imported") else _simulation(run, simulated),
        "training": {
            "parameters": stages["train"]["parameters"],
            "stages": [{"name": stage.name, "steps": stage.steps, "keep": stage.keep} for stage in settings.stages],
        },
        "versions": stages["prepare"]["versions"],
    }


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    return {name: version(name) for name in LIBRARIES}


def _simulation(run: Run, simulated: dict[str, Any]) -> dict[str, Any]:
    settings = run.settings.data.resolved(run.system)
    return {
        "temperatures": list(settings.temperatures or ()),
        "ladders": settings.ladders,
        "frames": simulated["frames"],
        "timestep": settings.timestep,
        "friction": settings.friction,
        **simulated["statistics"],
    }


def performance(run: Run) -> dict[str, Any]:
    """Wall time and processor time of each stage over all attempts, and energy calls."""
    record = run.folder.record()
    stages = record["stages"]
    calls = {name: stages[name]["energy_calls"] for name in ("train", "sample") if name in stages}
    spent = {account: record.get(account, {}) for account in ("seconds", "core_seconds")}
    return {**spent, "energy_calls": calls}


def stage_costs(run: Run) -> StageCosts | None:
    """Return what the weighted samples cost; None where data were given, or a stage is older than these records."""
    record = run.folder.record()
    spent = record.get("core_seconds", {})
    if record["stages"]["simulate"].get("imported") or not {"simulate", "train", "sample"} <= spent.keys():
        return None
    data = run.settings.data.resolved(run.system)
    before = data.start_steps + data.equilibration
    return StageCosts(spent["simulate"], spent["train"], spent["sample"], before / (before + data.steps))
