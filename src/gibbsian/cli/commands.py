"""What the commands do."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from gibbsian.cli.console import OUT, Watch
from gibbsian.errors import InputError, UnreliableError
from gibbsian.parallel.group import is_first, joined
from gibbsian.workflow.run import Run, Stage, open_run, perform, settings_of
from gibbsian.workflow.settings import read_settings
from gibbsian.workflow.system import model_of


def given_settings(source: str, **system: float | str) -> dict[str, Any]:
    """Return the settings of a command: a YAML file's, or a system with the given choices."""
    if Path(source).suffix not in (".yaml", ".yml"):
        return {"system": {"source": source, **system}}
    settings = read_settings(Path(source))
    if system:
        part = settings.get("system")
        settings["system"] = {**part, **system} if isinstance(part, dict) else system
    return settings


def with_choices(
    given: dict[str, Any],
    recipe: str | None = None,
    seed: int | None = None,
    n: int | None = None,
    until_ess: float | None = None,
) -> dict[str, Any]:
    """Lay the choices that were made over the settings."""
    choices = {name: value for name, value in (("recipe", recipe), ("seed", seed)) if value is not None}
    sampling = {name: value for name, value in (("n", n), ("until_ess", until_ess)) if value is not None}
    return {
        **given,
        **choices,
        **({"sampling": {**given.get("sampling", {}), **sampling}} if sampling else {}),
    }


def run_to(stage: str, given: dict[str, Any], source: str, output: Path | None, max_time: float | None) -> None:
    """Bring a run up to a stage, starting or continuing it; raise `UnreliableError` if its verdict says so."""
    path = output or Path("runs") / re.sub(r"[^\w.@-]+", "_", Path(source).stem if Path(source).is_file() else source)
    with joined():
        if is_first():
            _lead(stage, given, source, path, max_time)
        else:
            with open_run(given, path, _where(source)) as run:
                perform(run, _up_to(stage))


def _lead(stage: str, given: dict[str, Any], source: str, path: Path, max_time: float | None) -> None:
    """Do a run as the only process, or as the one that speaks and decides when to stop."""
    with open_run(given, path, _where(source)) as run, Watch(max_time, path / "log.txt") as watch:
        watch.say(f"{run.system.sequence}  {run.system.n_atoms} atoms  {model_of(run.system)}  -> {path}")
        for change in run.system.changes:
            watch.say(f"changed: {change}")
        _perform(run, stage, watch)


def _where(source: str) -> str:
    return source if source.endswith((".yaml", ".yml")) else "command line"


def _perform(run: Run, last: str, watch: Watch) -> None:
    perform(run, _up_to(last), watch.report)
    if last == "report":
        watch.say(f"report: {run.folder.report}")
    if last in ("evaluate", "report"):
        verdict = json.loads(run.folder.results.read_text())["verdict"]
        if not verdict["reliable"]:
            raise UnreliableError("weights NOT reliable: " + "; ".join(verdict["reasons"]))
        watch.say("verdict: reliable")


def _up_to(last: str) -> tuple[Stage, ...]:
    from gibbsian.workflow.stages import STAGES

    names = [stage.name for stage in STAGES]
    return STAGES[: names.index(last) + 1]


def import_data(path: Path, trajectory: Path, topology: Path | None) -> None:
    """Take a user's trajectory as the data of a run."""
    from gibbsian.workflow.importing import import_trajectory

    with open_run(settings_of(path), path, str(path)) as run, Watch(log=path / "log.txt") as watch:
        for line in import_trajectory(run, trajectory, topology, watch.report("import")):
            watch.say(line)


def evaluate_ensemble(
    folder: Path | None,
    ensemble: Path | None,
    reference: Path | None,
    topology: Path | None,
    temperature: float,
    output: Path | None,
) -> None:
    """Score any ensemble, against a reference if there is one, and print the results as JSON."""
    from gibbsian.workflow.scoring import score

    if ensemble is None:
        raise InputError("evaluate: neither a run folder nor --ensemble given; give one of them")
    if folder is not None:
        raise InputError("evaluate: both a run folder and --ensemble given; give one of them")
    results = score(ensemble, reference, topology, temperature)
    text = json.dumps(results, indent=2)
    if output is None:
        sys.stdout.write(text + "\n")
    else:
        from gibbsian.files import write_text

        write_text(output, text + "\n")
    if not results["verdict"]["reliable"]:
        raise UnreliableError("weights NOT reliable: " + "; ".join(results["verdict"]["reasons"]))


def print_energies(structure: Path, frames: Path | None, engine: str, choices: dict[str, Any]) -> None:
    """Print one line per conformation: number and energy in kJ/mol."""
    from gibbsian.workflow.energies import energies

    def warn(text: str) -> None:
        OUT.print(text, soft_wrap=True, markup=False)

    found = energies(structure, frames, engine, choices, warn)
    sys.stdout.write("# frame  energy (kJ/mol)\n")
    for number, energy in enumerate(found):
        sys.stdout.write(f"{number} {energy:.6f}\n")


def check(given: dict[str, Any], source: str) -> None:
    """Print what a run would do and cost; raise `InputError` for what it could not do."""
    from gibbsian.workflow.estimate import estimate
    from gibbsian.workflow.settings import resolve_settings

    settings = resolve_settings(given, _where(source))
    table = Table(box=None, show_header=False, pad_edge=False)
    cost = estimate(settings)
    for name, value in cost.rows:
        table.add_row(name, value)
    OUT.print(table)
    OUT.print(cost.advice, soft_wrap=True)
