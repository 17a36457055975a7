"""What the commands on trajectories do."""

from pathlib import Path
from typing import Any

from gibbsian.cli.console import Watch


def annotate(
    trajectory: Path, topology: str | None, output: Path, engine: str, choices: dict[str, Any], max_time: float | None
) -> None:
    """Compute the energies of a trajectory behind a progress bar."""
    from gibbsian.workflow.annotating import annotate_trajectory

    with Watch(max_time) as watch:
        for line in annotate_trajectory(trajectory, topology, output, choices, engine, watch.report("annotate")):
            watch.say(line)


def convert(source: Path, target: Path, topology: Path | None, n: int | None, seed: int) -> None:
    """Write a trajectory or an ensemble in another format."""
    from gibbsian.workflow.converting import convert as convert_frames

    with Watch() as watch:
        for line in convert_frames(source, target, topology, n, seed):
            watch.say(line)
