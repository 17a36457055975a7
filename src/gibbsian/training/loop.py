"""The training loop: one function that reads top to bottom."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gibbsian.chem.residues import Symmetry, symmetry_groups
from gibbsian.coords.permutations import random_relabelling
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.base import Proposal
from gibbsian.parallel.group import in_step, size
from gibbsian.progress import Report, silent
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended
from gibbsian.training.checkpoint import (
    Run,
    TrainingLog,
    frozen_copy,
    load_checkpoint,
    new_optimiser,
    save_checkpoint,
)
from gibbsian.training.data import Frames, Source, enrich, split
from gibbsian.training.early_stopping import EnergyRule, energy_rule, evaluate
from gibbsian.training.feed import Feed
from gibbsian.training.improve import add_own, add_own_at, quality, rounds, sources_of
from gibbsian.training.rungs import RUNGS, frames_at, generations_of, rungs_of, share_of, temperatures_of
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.step import optimise
from gibbsian.training.streams import GUARD, OWN, seed_of
from gibbsian.training.trainable import Model, Trainable

EVALUATED = 8192


def train(
    model: Model,
    data: Ensemble,
    stages: Sequence[Stage],
    settings: TrainSettings,
    folder: Path | str,
    report: Report = silent,
    target: Target | None = None,
    feed: Feed | None = None,
) -> Model:
    """Train a flow; the same call on the same folder continues with the bits of an undisturbed run.

    Batches are drawn by the ensemble's weights, relabelled by random exact symmetries and moved as the model asks. The
    result is the averaged weights that held-out data found best in the last stage; every stage starts from the best of
    the one before. A model that holds a range of temperatures learns them all from the same data.

    The processes that torchrun starts share each batch and each draw; the first one writes. Another number of them may
    continue.

    Parameters
    ----------
    model
        Untrained flow; trained in place.
    data
        Weighted frames; those held out are never trained on.
    stages, settings
        What to do. Budgets are steps.
    folder
        Receives ``checkpoint.safetensors`` and ``log.jsonl``.
    report
        Called with steps done and to do after each checkpoint; it may raise `StoppedError`.
    target
        Energies, for stages with reverse KL or refit, and for stopping by energies.
    feed
        More frames that arrive on the way; it was made from the same data, stages and settings.

    Raises
    ------
    InputError
        If the stages need a target that is missing or a density that the model does not have, the folder holds a
        different training, or too many steps in a row are not finite.
    """
    check_stages(model, stages, settings, target)
    place, report = Path(folder), in_step(report)
    place.mkdir(parents=True, exist_ok=True)
    course = lay_out(model, data, settings, target)
    legs = rounds(stages)
    total = sum(stage.steps for stage, _ in legs)
    key = _fingerprint(model, data, stages, settings, feed)
    run = load_checkpoint(place, key, model, settings) or Run.begin(model, settings.seed)
    log = TrainingLog(place / "log.jsonl", keep_until=run.step)

    done = 0
    for index, (stage, turn) in enumerate(legs):
        done += stage.steps
        if index < run.stage:
            continue
        new = index > run.stage or run.optimiser is None
        if new and turn > 0 and run.rejected:
            run.step = done
            continue
        if new:
            enter_stage(run, index, stage, settings, course)
        sources, validation = all_sources(run, stage, settings, course)
        fed = 0
        if new:
            evaluate(run, validation, settings, course.rule)
            save_checkpoint(place, key, run)
        first = done - stage.steps
        while run.step < done and not run.stopped:
            if feed is not None and feed.due(run.made) > fed:
                fed = feed.due(run.made)
                waiting = partial(report, run.step, total, stage=stage.name, waiting="for the simulation")
                sources = fed_sources(feed, fed, run, stage, settings, course, waiting)
            x = model.augment(draw_batch(sources, course.groups, run.generator), run.generator)
            figures = optimise(run, stage, settings, x, course.target, run.step - first, temperatures_of(sources))
            run.step += 1
            if run.step % settings.evaluate_every == 0 or run.step == done:
                judged = evaluate(run, validation, settings, course.rule)
                log.write(run.step, stage=stage.name, **judged, **figures)
            if run.step % settings.checkpoint_every == 0 or run.step == done or run.stopped:
                save_checkpoint(place, key, run)
                report(run.step, total, stage=stage.name, held_out_nll=run.held_out, skipped=run.skipped)
        if stage.refit_guard and not run.judged:
            log.write(run.step, stage=stage.name, **guard(run, stage, settings, course))
            save_checkpoint(place, key, run)
        if run.stopped:
            run.step = done
            run.stopped = False
    model.load_state_dict(run.best)
    return model


@dataclass(frozen=True, eq=False)
class Course:
    """What a training works with from its first to its last step.

    Attributes
    ----------
    rungs
        Temperatures (K) that the model learns at; none for a model that knows a single one.
    frames, held_out
        What batches are drawn from and what the loss is judged on, for each rung, rare basins raised, the latter in
        fixed poses.
    unseen
        All held-out frames as they came.
    groups
        Symmetries of the molecule.
    target, rule
        Energies with the gauge of the model, and the rule of stopping by them, or None.
    """

    rungs: tuple[float, ...]
    frames: list[Frames]
    held_out: list[Frames]
    unseen: Ensemble
    groups: list[Symmetry]
    target: Extended | None
    rule: EnergyRule | None


def lay_out(model: Trainable, data: Ensemble, settings: TrainSettings, target: Target | None) -> Course:
    """Divide the data and prepare what does not change."""
    parts, rungs = split(data, settings.held_out, settings.seed), rungs_of(model)
    frames, held_out = (
        [enrich(at, model.topology, settings.rare_share) for at in frames_at(part, rungs)] for part in parts
    )
    held_out = [_posed(model, at.thinned(EVALUATED // len(held_out)), settings.seed) for at in held_out]
    extended = None if target is None else Extended(target, model.log_gauge)
    rule = energy_rule(parts[1], extended, settings) if settings.stop_on == "energy" and extended else None
    return Course(rungs, frames, held_out, parts[1], symmetry_groups(model.topology), extended, rule)


def _posed(model: Trainable, frames: Frames, seed: int) -> Frames:
    """Move frames as the model asks, the same in every attempt; the run's own generator is not touched."""
    return replace(frames, x=model.augment(frames.x, torch.Generator().manual_seed(seed)))


def all_sources(run: Run, stage: Stage, settings: TrainSettings, course: Course) -> tuple[list[Source], list[Source]]:
    """Where a stage's batches come from, and what it is judged on: the sources of every rung in equal parts."""
    n = len(course.frames)
    found = [
        sources_of(share_of(stage, k, n), settings, *both, generations_of(run.buffer, k, n), run.model.topology)
        for k, both in enumerate(zip(course.frames, course.held_out, strict=True))
    ]
    sources, validation = ([source for part in parts for source in part] for parts in zip(*found, strict=True))
    return sources, validation


def fed_sources(
    feed: Feed, n: int, run: Run, stage: Stage, settings: TrainSettings, course: Course, waiting: Callable[[], None]
) -> list[Source]:
    """Where batches come from with `n` portions; what is judged on stays as it is, so that losses can be compared."""
    course = replace(course, frames=feed.frames(n, course.rungs, waiting))
    return all_sources(run, stage, settings, course)[0]


def check_stages(model: Trainable, stages: Sequence[Stage], settings: TrainSettings, target: Target | None) -> None:
    """Refuse at once what would fail later.

    Raises
    ------
    InputError
        If there is no stage, or one needs a target that is missing or what the model or several processes do not do.
    """
    if not stages:
        raise InputError("training: no stages; give at least one")
    if target is None and (settings.stop_on == "energy" or any(stage.needs_target for stage in stages)):
        raise InputError(
            "training: a stage with reverse KL or refit, or stop_on: energy, needs a target; give one or drop these"
        )
    if size() > min(stage.batch for stage in stages):
        raise InputError(f"training: a batch is smaller than {size()} processes; raise batch or use fewer of them")
    name = type(model).__name__
    if rungs_of(model):
        if any(stage.w_kl > 0 or stage.refit_source != "snis" for stage in stages) or settings.stop_on == "energy":
            raise InputError(
                f"{name}: with model.temperatures, w_kl, refit_source: smc and stop_on: energy would serve one "
                "temperature only; leave them out"
            )
        if min(stage.batch for stage in stages) < RUNGS:
            raise InputError(f"training: a batch is divided over {RUNGS} temperatures; raise batch")
    if any(stage.refit_samples for stage in stages) and not isinstance(model, Proposal):
        raise InputError(f"{name}: has no density, so its samples have no weights; set refit_samples to 0")
    if any(stage.refit_penalty > 0 for stage in stages) and not _differentiable_density(model):
        raise InputError(f"{name}: log q is not differentiable in the weights; set refit_penalty to 0")
    if any(stage.w_kl > 0 for stage in stages):
        if size() > 1:
            raise InputError("training: reverse KL runs in one process only; set w_kl to 0 or start without torchrun")
        x, log_q = model.rsample(1, torch.Generator().manual_seed(0))
        if not (x.requires_grad and log_q.requires_grad):
            raise InputError(f"{name}: samples are not differentiable; set w_kl to 0 in every stage")


def _differentiable_density(model: Trainable) -> bool:
    with torch.no_grad():
        x, _ = model.rsample(1, torch.Generator().manual_seed(0))
    return model.log_prob(x).requires_grad


def enter_stage(run: Run, index: int, stage: Stage, settings: TrainSettings, course: Course) -> None:
    """Start from the best weights so far with a new optimiser; draw and weight samples for a refit."""
    run.stage, run.best_loss, run.bad, run.in_a_row = index, math.inf, 0, 0
    run.judged = run.rejected = False
    for model in (run.model, run.ema):
        model.load_state_dict(run.best)
    run.teacher = frozen_copy(run.ema) if stage.needs_teacher else None
    run.optimiser = new_optimiser(run.model, settings)
    if stage.refit_samples and course.target is not None:
        seed = seed_of(settings.seed, OWN, index)
        if course.rungs:
            add_own_at(run.buffer, run.ema, stage, course.target, course.unseen.temperature, course.rungs, seed)
            return
        add_own(run.buffer, run.ema, stage, course.target, course.unseen.temperature, seed)


def guard(run: Run, stage: Stage, settings: TrainSettings, course: Course) -> dict[str, float | str]:
    """Compare the stage's best weights with those it began with, and go back where they are worse."""
    assert course.target is not None
    run.ema.load_state_dict(run.best)
    seed = seed_of(settings.seed, GUARD, run.stage)
    after, before = (
        quality(model, course.unseen, stage.refit_samples, course.target, seed) for model in (run.ema, run.teacher)
    )
    run.judged, run.rejected = True, after.falls_behind(before)
    if run.rejected:
        run.best = {name: tensor.clone() for name, tensor in run.teacher.state_dict().items()}
    return {
        "guard": "taken back" if run.rejected else "kept",
        "ess_before": before.ess,
        "ess_after": after.ess,
        "basins_before": before.covered,
        "basins_after": after.covered,
    }


def draw_batch(sources: list[Source], groups: list[Symmetry], generator: torch.Generator) -> Tensor:
    """One batch from all sources, relabelled."""
    x = torch.cat([source.frames.x[source.draw(generator)] for source in sources])
    return random_relabelling(x, groups, generator)


def _fingerprint(
    model: Trainable, data: Ensemble, stages: Sequence[Stage], settings: TrainSettings, feed: Feed | None
) -> str:
    config = asdict(model.config)
    if config.get("temperatures", ()) is None:
        del config["temperatures"]  # trainings that were begun without this setting go on
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256(json.dumps([asdict(s) for s in stages] + [asdict(settings), config, shapes]).encode())
    digest.update(data.positions.tobytes())
    digest.update(data.log_w.tobytes())
    if feed is not None:
        digest.update(json.dumps(feed.key).encode())
    if (rungs_of(model) or feed is not None) and data.u is not None:
        digest.update(data.u.tobytes())
    return digest.hexdigest()
