"""`gibbsian`: from a sequence to a weighted ensemble. Heavy modules are imported by the commands that need them."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from gibbsian.cli.notices import short_warnings
from gibbsian.errors import GibbsianError, InputError
from gibbsian.parallel.launch import launched, launched_first

GRACE = 5.0
"""Seconds by which the other processes of torchrun fail later than the first."""
TOGETHER = ("run", "train", "sample", "evaluate", "report")
"""Commands that the processes of torchrun share."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learned equilibrium sampling of peptides and proteins, with exact weights. "
    "The same command starts, continues and tops up a run.",
)

Source = Annotated[
    str,
    typer.Argument(metavar="SYSTEM", help="Built-in name, sequence, FASTA, PDB or mmCIF file, or a run.yaml."),
]
Folder = Annotated[Path | None, typer.Option("-o", "--output", help="Run folder [default: runs/SYSTEM].")]
Recipe = Annotated[str | None, typer.Option(help="Recipe.")]
Temperature = Annotated[float | None, typer.Option(help="Temperature in K.")]
ForceField = Annotated[str | None, typer.Option(help="Force field.")]
Solvent = Annotated[str | None, typer.Option(help="Implicit solvent model.")]
Cutoff = Annotated[float | None, typer.Option(help="Non-bonded cutoff in nm; none if not given.")]
Termini = Annotated[str | None, typer.Option(help="capped or zwitterionic.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Samples = Annotated[int | None, typer.Option("--samples", "-n", help="Samples to draw.")]
UntilEss = Annotated[float | None, typer.Option(help="Draw until this many effective samples.")]
MaxTime = Annotated[float | None, typer.Option(help="Stop with a checkpoint after this many seconds (exit code 75).")]
RunPath = Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")]


@app.command()
def run(
    system: Source,
    output: Folder = None,
    recipe: Recipe = None,
    temperature: Temperature = None,
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
    termini: Termini = None,
    seed: Seed = None,
    samples: Samples = None,
    until_ess: UntilEss = None,
    max_time: MaxTime = None,
) -> None:
    """Do everything: simulate, train, sample, reweight, evaluate, report."""
    from gibbsian.cli import commands

    given = commands.given_settings(system, **_system(temperature, forcefield, solvent, cutoff, termini))
    given = commands.with_choices(given, recipe=recipe, seed=seed, n=samples, until_ess=until_ess)
    commands.run_to("report", given, system, output, max_time)


@app.command()
def prepare(
    system: Source,
    output: Folder = None,
    recipe: Recipe = None,
    temperature: Temperature = None,
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
    termini: Termini = None,
    seed: Seed = None,
) -> None:
    """Build the system and its run folder, and stop there."""
    from gibbsian.cli import commands

    given = commands.given_settings(system, **_system(temperature, forcefield, solvent, cutoff, termini))
    commands.run_to("prepare", commands.with_choices(given, recipe=recipe, seed=seed), system, output, None)


@app.command()
def simulate(folder: RunPath, max_time: MaxTime = None) -> None:
    """Make training data by replica exchange."""
    _continue("simulate", folder, max_time)


@app.command(name="import")
def import_(
    folder: RunPath,
    trajectory: Annotated[
        Path, typer.Argument(help="XTC, DCD, PDB, mmCIF, mdtraj-HDF5, .npy (nm) or an ensemble folder.")
    ],
    topology: Annotated[Path | None, typer.Option(help="PDB file with the trajectory's atoms and names.")] = None,
) -> None:
    """Use your own equilibrium trajectory as training data, in place of `simulate`."""
    from gibbsian.cli import commands

    commands.import_data(folder, trajectory, topology)


@app.command()
def train(folder: RunPath, max_time: MaxTime = None) -> None:
    """Train the proposal; makes data first if there are none."""
    _continue("train", folder, max_time)


@app.command()
def sample(folder: RunPath, samples: Samples = None, until_ess: UntilEss = None, max_time: MaxTime = None) -> None:
    """Draw and reweight samples; more than before tops up."""
    _continue("sample", folder, max_time, samples, until_ess)


@app.command()
def evaluate(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Run folder.")] = None,
    ensemble: Annotated[Path | None, typer.Option(help="Anyone's ensemble: trajectory or folder.")] = None,
    reference: Annotated[Path | None, typer.Option(help="What to compare it with.")] = None,
    topology: Annotated[Path | None, typer.Option(help="PDB file for trajectories without atom names.")] = None,
    temperature: Annotated[float, typer.Option(help="Temperature in K of --ensemble.")] = 300.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write results.json here.")] = None,
) -> None:
    """Score a run, or any ensemble against a reference."""
    from gibbsian.cli import commands

    if folder is not None and ensemble is None:
        _continue("evaluate", folder, None)
    else:
        commands.evaluate_ensemble(folder, ensemble, reference, topology, temperature, output)


@app.command()
def report(folder: RunPath, max_time: MaxTime = None) -> None:
    """Write report.html; does whatever is still missing before it."""
    _continue("report", folder, max_time)


@app.command()
def energy(
    structure: Annotated[Path, typer.Argument(help="PDB or mmCIF file.")],
    frames: Annotated[Path | None, typer.Option(help="Trajectory of the same molecule.")] = None,
    engine: Annotated[str, typer.Option(help="auto, compiled, torch or openmm.")] = "auto",
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
) -> None:
    """Print potential energies in kJ/mol, one line per conformation."""
    from gibbsian.cli import commands

    commands.print_energies(structure, frames, engine, _system(None, forcefield, solvent, cutoff, None))


@app.command()
def annotate(
    trajectory: Annotated[Path, typer.Argument(help="XTC, DCD, PDB, mmCIF, mdtraj-HDF5 or .npy (nm).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Ensemble folder.")],
    topology: Annotated[str | None, typer.Option(help="PDB or mmCIF file of its atoms, or a SYSTEM.")] = None,
    engine: Annotated[str, typer.Option(help="As in `energy`.")] = "auto",
    temperature: Temperature = None,
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
    termini: Termini = None,
    max_time: MaxTime = None,
) -> None:
    """Compute the energies of all frames of a trajectory; the same command continues."""
    from gibbsian.cli import trajectories

    choices = _system(temperature, forcefield, solvent, cutoff, termini)
    trajectories.annotate(trajectory, topology, output, engine, choices, max_time)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Trajectory, .npy (nm) or an ensemble folder.")],
    target: Annotated[Path, typer.Argument(help="File to write: .pdb, .cif, .xtc, .dcd or .h5.")],
    topology: Annotated[Path | None, typer.Option(help="PDB file for trajectories without atom names.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", "-n", help="Draw so many frames by weight.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the drawing.")] = 0,
) -> None:
    """Write a trajectory or an ensemble in another format."""
    from gibbsian.cli import trajectories

    trajectories.convert(source, target, topology, samples, seed)


@app.command()
def umbrella(
    system: Source,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for windows, ensemble and profile.png.")],
    torsion: Annotated[list[str], typer.Option(help="Residue and kind, as 2:phi or ALA2:chi1; once or twice.")],
    windows: Annotated[int | None, typer.Option(help="Along each torsion [default: 24, or 18 for two].")] = None,
    k: Annotated[float | None, typer.Option("-k", help="Bias in kJ/mol/rad^2 [default: 4 kT / distance^2].")] = None,
    copies: Annotated[int | None, typer.Option(help="Walkers in each window [default: 8].")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of 2 fs of each walker [default: 200000].")] = None,
    temperature: Temperature = None,
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
    termini: Termini = None,
    seed: Seed = None,
    threads: Annotated[int | None, typer.Option(help="Threads [default: all cores].")] = None,
    max_time: MaxTime = None,
) -> None:
    """Free-energy profiles along one or two torsions from biased windows; the same command continues."""
    from gibbsian.cli import umbrella as windowed

    given = {"windows": windows, "k": k, "copies": copies, "steps": steps, "seed": seed}
    choices = _system(temperature, forcefield, solvent, cutoff, termini)
    windowed.umbrella(system, torsion, output, choices, given, threads, max_time)


@app.command()
def check(
    system: Source,
    recipe: Recipe = None,
    temperature: Temperature = None,
    forcefield: ForceField = None,
    solvent: Solvent = None,
    cutoff: Cutoff = None,
    termini: Termini = None,
) -> None:
    """Validate input, estimate cost, and say whether the recipe suits the molecule."""
    from gibbsian.cli import commands

    given = commands.given_settings(system, **_system(temperature, forcefield, solvent, cutoff, termini))
    commands.check(commands.with_choices(given, recipe=recipe), system)


@app.command()
def bench(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Name of a table; an unknown one lists them.")],
    system: Annotated[str | None, typer.Option(help="Only rows of this system.")] = None,
    row: Annotated[str | None, typer.Option(help="Only rows of this name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Only rows with this seed.")] = None,
    ablation: Annotated[str | None, typer.Option(help="Rows of an ablation of this table.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the rows that exist; measure nothing.")] = False,
    list_rows: Annotated[
        bool, typer.Option("--list", help="Print all rows and their expected cost; measure nothing.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(help="Draw the figures of the table into this folder; measure nothing.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the rows [default: benchmarks/results].")] = None,
    references: Annotated[
        Path | None, typer.Option(help="Folder for certified references [default: that of the package].")
    ] = None,
    max_time: MaxTime = None,
) -> None:
    """Reproduce a benchmark table, row by row; rows that exist are kept."""
    from gibbsian.cli import bench as benchmarks

    choice = benchmarks.Choice(table, system, row, seed, ablation)
    if show:
        benchmarks.show_table(choice, results)
    elif figures is not None:
        benchmarks.draw_figures(choice, results, figures)
    elif list_rows:
        benchmarks.list_table(choice, results)
    else:
        benchmarks.bench(choice, results, references, max_time)


@app.command()
def doctor(
    engines: Annotated[bool, typer.Option("--engines", help="Compare all engines on all built-in systems.")] = False,
) -> None:
    """Print versions, devices and which engines work."""
    from gibbsian.cli import diagnose

    diagnose.doctor(engines)


def _continue(
    stage: str, folder: Path, max_time: float | None, n: int | None = None, until_ess: float | None = None
) -> None:
    from gibbsian.cli import commands
    from gibbsian.workflow.run import settings_of

    given = commands.with_choices(settings_of(folder), n=n, until_ess=until_ess)
    commands.run_to(stage, given, str(folder / "run.yaml"), folder, max_time)


def _system(
    temperature: float | None,
    forcefield: str | None,
    solvent: str | None,
    cutoff: float | None,
    termini: str | None,
) -> dict[str, float | str]:
    """Return the choices that were made, without the open ones."""
    choices = {
        "temperature": temperature,
        "forcefield": forcefield,
        "solvent": solvent,
        "cutoff": cutoff,
        "termini": termini,
    }
    return {name: choice for name, choice in choices.items() if choice is not None}


def _refuse_torchrun(command: list[str]) -> None:
    if launched() > 1 and command not in [[name] for name in TOGETHER]:
        raise InputError(f"torchrun: only {', '.join(TOGETHER)} use several processes; start others without it")


def main() -> None:
    """Entry point: errors become one line, from one process, and their exit code; warnings a line said once."""
    short_warnings()
    try:
        _refuse_torchrun(sys.argv[1:2])
        app()
    except GibbsianError as error:
        if launched_first():
            print(f"gibbsian: {error}", file=sys.stderr)
        else:
            # torchrun ends all processes when one fails: let it be the one that speaks.
            time.sleep(GRACE)
        sys.exit(error.exit_code)
    except MemoryError:
        print("gibbsian: out of memory; use fewer samples or a smaller batch", file=sys.stderr)
        sys.exit(4)
