"""Lead a flow to the Boltzmann distribution by energies alone.

Every step draws from the flow, chooses the next target q^a p^b, weights the draws for it and fits the flow to them by
forward KL. The rule that chooses is all that distinguishes the published methods, see `controllers`.
(arXiv 2501.19077, 2510.18460 and 2208.01893.)
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gibbsian.chem.residues import Symmetry, symmetry_groups
from gibbsian.ensemble.basins import basin_masks
from gibbsian.errors import InputError
from gibbsian.files import make_folder
from gibbsian.models.base import Proposal
from gibbsian.progress import Report, silent
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended
from gibbsian.training.annealing.controllers import Controller, Place
from gibbsian.training.annealing.samples import bounded, join, learn_from, refreshed
from gibbsian.training.annealing.settings import Annealing
from gibbsian.training.annealing.transport import Drawn, draw_annealed, draw_plain
from gibbsian.training.annealing.weights import FINAL, Weighted, effective, weigh
from gibbsian.training.checkpoint import Run, TrainingLog, load_checkpoint, new_optimiser, save_checkpoint
from gibbsian.training.data import Frames, Source, draw_batch
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.step import Goals, optimise
from gibbsian.training.streams import OWN, seed_of
from gibbsian.training.trainable import Model

LOG = "annealing.jsonl"
SHORTENINGS = 12
"""How often a step is halved before it is refused."""
MOST_REFUSED = 5
"""Steps refused in a row that end an annealing."""
CANDIDATES = 2
"""Samples from which each of a batch is chosen where their weights have aged."""
MOST_VISITS = 16.0
"""How often a single sample may be seen: one with an outstanding weight would otherwise be learnt by heart."""


class RefusedError(InputError):
    """Every step was refused: the draws are worth too little for the next target."""


@dataclass(frozen=True, eq=False)
class Annealer:
    """What does not change from step to step.

    Attributes
    ----------
    target, temperature
        Energies with the gauge of the flow, and their temperature in K.
    settings, training
        Of the annealing, and of each optimiser step.
    controller
        Chooses how far a step goes.
    groups
        Exact symmetries of the molecule.
    simulated
        Frames that join the draws; None for none.
    """

    target: Extended
    temperature: float
    settings: Annealing
    training: TrainSettings
    controller: Controller
    groups: list[Symmetry]
    simulated: Source | None


@dataclass(frozen=True)
class Progress:
    """Where an annealing is.

    Attributes
    ----------
    draws, calls
        Generations drawn, and energies evaluated for them.
    place
        What the controller needs to know.
    refused
        Steps refused in a row.
    """

    draws: int = 0
    calls: int = 0
    place: Place = field(default_factory=Place)
    refused: int = 0


def anneal(
    model: Model,
    target: Target,
    temperature: float,
    settings: Annealing,
    training: TrainSettings,
    folder: Path | str,
    report: Report = silent,
    frames: Frames | None = None,
) -> Model:
    """Anneal a flow until the energy calls are spent; the same call on the same folder continues.

    Parameters
    ----------
    model
        A flow with an exact density: fresh, for a start from its prior, or fitted to data. Trained in place.
    target, temperature
        Boltzmann distribution and its temperature in K.
    settings, training
        The method and its budget; seed, average of weights, weight decay and clipping of the optimiser.
    folder
        Receives ``checkpoint.safetensors``, and ``annealing.jsonl`` with a line for each step: powers `a` and `b`, what
        the step changes, ``target_ess``, the effective fraction of the draws for the Boltzmann distribution, and
        ``generations``, of how many the samples were that it learnt from.
    report
        Called with calls spent and allowed after each step; it may raise `StoppedError`.
    frames
        Of a simulation of the target, for settings that let frames join the draws.

    Raises
    ------
    InputError
        If the flow has no density, frames are missing, or the folder holds another annealing.
    RefusedError
        If step after step is refused.
    """
    if not isinstance(model, Proposal):
        raise InputError(
            f"{type(model).__name__}: has no density, so its samples have no weights; choose another recipe"
        )
    if settings.frames > 0 and frames is None:
        raise InputError("annealing: frames needs a simulation; give one, or leave it out")
    place = Path(folder)
    make_folder(place)
    job = Annealer(
        Extended(target, model.log_gauge),
        temperature,
        settings,
        training,
        settings.controller(temperature),
        symmetry_groups(model.topology),
        Source(frames, settings.frames) if settings.frames > 0 and frames is not None else None,
    )
    key = _fingerprint(model, job)
    run = load_checkpoint(place, key, model, training) or Run.begin(model, training.seed)
    run.optimiser = run.optimiser or new_optimiser(run.model, training)
    progress = Progress(**{**run.notes, "place": Place(**run.notes["place"])}) if run.notes else Progress()
    log = TrainingLog(place / LOG, keep_until=progress.draws)
    while progress.calls < settings.calls:
        progress, figures = advance(run, progress, job)
        run.notes = asdict(progress)
        log.write(progress.draws, calls=progress.calls, **figures)
        save_checkpoint(place, key, run)
        report(progress.calls, settings.calls, ess=figures["target_ess"], b=figures["b"])
    model.load_state_dict(run.ema.state_dict())
    return model


def advance(run: Run, progress: Progress, job: Annealer) -> tuple[Progress, dict[str, float | str]]:
    """Make one step: draw, choose, and fit or refuse; return figures for the log.

    Raises
    ------
    RefusedError
        After `MOST_REFUSED` refused steps in a row.
    """
    settings, seed = job.settings, seed_of(job.training.seed, OWN, progress.draws)
    if settings.method == "fab":
        drawn = draw_annealed(run.ema, job.target, job.temperature, settings, seed)
    else:
        drawn = draw_plain(run.ema, job.target, settings.samples, seed)
    learnt, place = drawn, progress.place
    if job.simulated is None:
        step, place = choose(drawn, place, job)
    else:
        learnt, step = join(drawn, job.simulated, job.groups, run.ema, job.target, run.generator)
    spent = progress.calls
    progress = replace(progress, draws=progress.draws + 1, calls=spent + learnt.calls)
    figures = _figures(run, drawn, step)
    if step.ess < settings.ess_floor:
        if progress.refused + 1 >= MOST_REFUSED:
            raise RefusedError(
                f"annealing: {MOST_REFUSED} steps in a row were refused, the last with an effective fraction of "
                f"{step.ess:.1g} (floor {settings.ess_floor:g}); raise samples, train longer before, "
                "start hotter or lower ess_floor"
            )
        return replace(progress, refused=progress.refused + 1), figures | {"refused": "yes"}
    frames, generations = learn_from(run, learnt, step, settings, job.training.rare_share)
    loss = fit(run, frames, generations, job, spent, progress.calls)
    place = Place(place.steps + 1, step.powers.b, 1.0)
    figures |= {"refused": "no", "loss": loss, "generations": generations}
    return replace(progress, place=place, refused=0), figures


def choose(drawn: Drawn, place: Place, job: Annealer) -> tuple[Weighted, Place]:
    """Return the next target with its weights, and a shorter step where they would be worth too little."""
    if drawn.log_w is not None:
        powers = job.controller.choose(drawn.log_q, drawn.log_p, place)
        plain = weigh(drawn.log_q, drawn.log_p, FINAL)
        return replace(plain, powers=powers, log_w=drawn.log_w, ess=effective(drawn.log_w) / len(drawn.log_w)), place
    step = weigh(drawn.log_q, drawn.log_p, job.controller.choose(drawn.log_q, drawn.log_p, place))
    for _ in range(SHORTENINGS):
        settled = step.powers.final and place.b == FINAL.b
        if step.ess >= job.settings.ess_floor or settled:
            break
        place = replace(place, pace=0.5 * place.pace)
        step = weigh(drawn.log_q, drawn.log_p, job.controller.choose(drawn.log_q, drawn.log_p, place))
    return step, place


def fit(run: Run, frames: Frames, generations: int, job: Annealer, spent: int, allowed: int) -> float:
    """Fit the flow to weighted samples by forward KL; return the mean loss of the last tenth of the steps.

    The samples are of so many generations, each of which stays for as many fits. The learning rate falls with the
    energy calls over the whole annealing: `spent` before these steps, `allowed` after.
    """
    settings = job.settings
    ages = settings.method == "fab"
    enough = settings.fit_steps if ages else math.ceil(settings.passes * effective(frames.log_w) / settings.batch)
    steps = min(settings.fit_steps, enough)
    calls = (allowed - spent) / steps
    warmup = round(settings.warmup * calls)
    stage = Stage("anneal", settings.calls, lr=settings.lr, batch=settings.batch, warmup=warmup)
    frames = bounded(frames, MOST_VISITS / (generations * steps * settings.batch))
    source = Source(frames, settings.batch * (CANDIDATES if ages else 1))
    log_q = torch.cat(run.buffer.log_q) if ages else None
    losses = []
    for k in range(steps):
        if log_q is None:
            x = draw_batch([source], job.groups, run.generator)
        else:
            x = refreshed(run, source, log_q, settings.batch)
        at = min(settings.calls, round(spent + k * calls))
        losses.append(optimise(run, stage, job.training, run.model.augment(x, run.generator), Goals(), at)["nll"])
        run.step += 1
    return float(torch.tensor(losses[-max(1, len(losses) // 10) :]).mean())


def _figures(run: Run, drawn: Drawn, step: Weighted) -> dict[str, float | str]:
    """Say what a step was, and what the draws are worth for the Boltzmann distribution."""
    final = weigh(drawn.log_q, drawn.log_p, FINAL)
    figures: dict[str, float | str] = {
        "a": step.powers.a,
        "b": step.powers.b,
        "ess": step.ess,
        "log_z": step.log_z,
        "divergence": step.divergence,
        "entropy_drop": step.entropy_drop,
        "target_ess": final.ess,
        "target_log_z": final.log_z,
    }
    weights = torch.softmax(final.log_w, 0)
    for name, mask in basin_masks(run.model.topology, drawn.x.numpy()).items():
        inside = torch.from_numpy(mask)
        figures |= {f"{name} drawn": float(inside.double().mean()), f"{name} weighted": float(weights[inside].sum())}
    return figures


def _fingerprint(model: Any, job: Annealer) -> str:
    digest = hashlib.sha256(json.dumps([asdict(job.settings), asdict(job.training), asdict(model.config)]).encode())
    digest.update(str(job.temperature).encode())
    frames = job.simulated.frames if job.simulated is not None else None
    for tensor in (*model.state_dict().values(), *((frames.log_w,) if frames is not None else ())):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()
