"""What a run will cost, from a short trial on this machine, and whether its recipe makes sense."""

import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.models.registry import MODELS
from gibbsian.potentials import potential
from gibbsian.potentials.base import Potential
from gibbsian.threads import one_thread
from gibbsian.workflow.fitting import check_reference
from gibbsian.workflow.settings import RunSettings
from gibbsian.workflow.system import build_system

SENSIBLE_RESIDUES = 10
"""Beyond about this size importance weights of a whole-molecule flow degenerate (published results, own trials)."""
_CONTINUOUS = (
    "This recipe is for comparison: a sample of a continuous flow takes about a second beside its energy. The recipe "
    "spline suits small peptides."
)
STUDIES = {
    "ecnf": _CONTINUOUS,
    "ecnf_plus": _CONTINUOUS,
    "eacf": "This recipe is for comparison: its default budget is far from enough for useful weights. The recipe "
    "spline suits small peptides.",
    "sbg": "This recipe is for the study of Cartesian flows: two residues take it ten times the training of the recipe "
    "spline for the same effective sample size, three far more.",
}
"""Advice on recipes that no molecule suits."""
TRIAL_FRAMES = 256
TRIAL_DRAWS = (16, 256, 1000)
QUICK = 0.3
FIRST_NOISE = 0.002


@dataclass(frozen=True)
class Estimate:
    """Rows of (what, value) and one sentence of advice."""

    rows: tuple[tuple[str, str], ...]
    advice: str


@one_thread()
def estimate(settings: RunSettings) -> Estimate:
    """Time a few energy evaluations and training steps and multiply.

    Raises
    ------
    InputError
        If the system cannot be built.
    """
    system = build_system(settings.system)
    check_reference(settings, system.temperature)
    data = settings.data.resolved(system)
    walkers = data.ladders * len(data.temperatures or ())
    steps = data.start_steps + data.equilibration + data.steps
    frames = walkers * data.steps // data.save_every
    cores = min(data.groups, os.cpu_count() or 1)
    simulate = walkers * steps / cores / _rate(potential(system, dtype=torch.float32, threads=1), system, walkers)
    train = sum(stage.steps * _step_seconds(system, settings, stage.batch) for stage in settings.stages)
    if settings.annealing is not None:
        generations = math.ceil(settings.annealing.calls / settings.annealing.samples)
        train += generations * settings.annealing.fit_steps * _step_seconds(system, settings, settings.annealing.batch)
    flow = _untrained(system, settings, TRIAL_FRAMES)
    drawn = settings.sampling.n * (1 + len(settings.sampling.temperatures))
    sample = drawn * (1 / _rate(potential(system), system, TRIAL_FRAMES) + _draw_seconds(flow))
    rows = (
        ("system", f"{system.sequence}, {system.n_atoms} atoms, {system.forcefield} + {system.solvent}"),
        *(("changed", change) for change in system.changes),
        ("temperatures", f"{len(data.temperatures or ())}, {data.ladders} ladders, {walkers} walkers"),
        (
            "data",
            f"{walkers * steps * data.timestep / 1000:.1f} ns, {frames} frames, {_megabytes(system, frames)}",
        ),
        ("simulate", _duration(simulate)),
        ("train", f"{_duration(train)} at most"),
        ("sample", f"{_duration(sample)} for {drawn} samples, before any annealing or exchange"),
    )
    return Estimate(rows, STUDIES.get(settings.recipe) or _advice(system))


def _advice(system: System) -> str:
    residues = sum(name not in ("ACE", "NME", "NH2") for name in system.topology.residue_names)
    if residues <= SENSIBLE_RESIDUES:
        return f"The recipe suits {residues} residue{'s' if residues > 1 else ''}."
    return (
        f"The recipe does not suit {residues} residues: beyond about {SENSIBLE_RESIDUES} the weights of such a flow "
        "degenerate, and the verdict will say so. `gibbsian simulate` alone still gives a replica-exchange ensemble."
    )


def _rate(engine: Potential, system: System, batch: int) -> float:
    """Conformations per second."""
    generator = torch.Generator().manual_seed(0)
    shape = (min(batch, TRIAL_FRAMES), system.n_atoms, 3)
    x = torch.from_numpy(system.positions) + FIRST_NOISE * torch.randn(shape, generator=generator)
    x = x.float()
    engine.energy_and_force(x)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < 0.5:
        engine.energy_and_force(x)
        calls += len(x)
    return calls / (time.perf_counter() - begin)


def _frames(system: System, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.from_numpy(system.positions) + FIRST_NOISE * torch.randn((n, system.n_atoms, 3), generator=generator)


def _untrained(system: System, settings: RunSettings, batch: int) -> Any:
    # The statistics of a flow need more conformations than coordinates.
    frames = _frames(system, max(batch, 10 * system.n_atoms))
    return MODELS[settings.proposal].model.from_data(system.topology, frames, config=settings.model)


def _draw_seconds(flow: Any) -> float:
    """Seconds of one sample with its density, in the largest of the trial batches that is quick."""
    generator, seconds = torch.Generator().manual_seed(0), 0.0
    for n in TRIAL_DRAWS:
        begin = time.perf_counter()
        flow.sample(n, generator)
        seconds = (time.perf_counter() - begin) / n
        if seconds * n > QUICK:
            break
    return seconds


def _step_seconds(system: System, settings: RunSettings, batch: int) -> float:
    """Seconds of one training step."""
    generator = torch.Generator().manual_seed(0)
    flow, x = _untrained(system, settings, batch), _frames(system, batch)
    flow.objective(x, generator).mean().backward()
    begin = time.perf_counter()
    for _ in range(3):
        flow.objective(x, generator).mean().backward()
    return (time.perf_counter() - begin) / 3


def _megabytes(system: System, frames: int) -> str:
    return f"{frames * system.n_atoms * 12 / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds > 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
