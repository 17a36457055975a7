"""The other temperatures of a run: drawn from its flow, kept in its folder, and read again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.progress import Report
from gibbsian.sampling.temperatures import name_of, temperature_scan
from gibbsian.workflow.run import Run
from gibbsian.workflow.system import target_of


def scan(run: Run, flow: Any, report: Report) -> list[Ensemble]:
    """Draw what `sampling.temperatures` asks for; nothing where that is empty."""
    settings = run.settings.sampling
    if not settings.temperatures:
        return []
    return temperature_scan(
        flow,
        target_of(run.system),
        settings.temperatures,
        settings.n,
        topology=run.system.topology,
        folder=run.folder.samples / "chunks",
        seed=run.settings.seed,
        chunk=settings.chunk,
        report=report,
    )


def save_scan(run: Run, ensembles: Sequence[Ensemble]) -> None:
    """Write each to its own folder below the samples."""
    for ensemble in ensembles:
        ensemble.save(_place(run, ensemble.temperature))


def load_scan(run: Run) -> list[Ensemble]:
    """Read what `save_scan` wrote for the settings of the run."""
    return [Ensemble.load(_place(run, temperature)) for temperature in run.settings.sampling.temperatures]


def _place(run: Run, temperature: float) -> Path:
    return run.folder.samples / name_of(temperature)
