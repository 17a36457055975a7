"""The training loop: one function that reads top to bottom."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.parallel.group import in_step
from gibbsian.progress import Report, silent
from gibbsian.targets.base import Target
from gibbsian.training.checkpoint import (
    Run,
    TrainingLog,
    frozen_copy,
    load_checkpoint,
    new_optimiser,
    save_checkpoint,
)
from gibbsian.training.checks import check_stages
from gibbsian.training.course import Course, all_sources, fed_sources, lay_out
from gibbsian.training.data import draw_batch
from gibbsian.training.early_stopping import evaluate
from gibbsian.training.feed import Feed
from gibbsian.training.improve import add_own, add_own_at, quality, rounds
from gibbsian.training.rungs import rungs_of, temperatures_of
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.step import Goals, optimise
from gibbsian.training.streams import GUARD, OWN, seed_of
from gibbsian.training.trainable import Model, Trainable


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
    course = lay_out(model, data, stages, settings, target, feed)
    legs = rounds(stages)
    key = _fingerprint(model, data, stages, settings, feed)
    run = load_checkpoint(place, key, model, settings) or Run.begin(model, settings.seed)
    log = TrainingLog(place / "log.jsonl", keep_until=run.step)
    book = Book(place, key, log, report, total=sum(stage.steps for stage, _ in legs))

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
            enter_stage(run, index, stage, course)
        take_steps(run, stage, done, new, course, book)
        if stage.refit_guard and not run.judged:
            book.log.write(run.step, stage=stage.name, **guard(run, stage, course))
            book.save(run)
        if run.stopped:
            run.step = done
            run.stopped = False
    model.load_state_dict(run.best)
    return model


@dataclass(frozen=True, eq=False)
class Book:
    """Where a training is written down: its folder and the key of what it is, its log, and who is told of `total`."""

    folder: Path
    key: str
    log: TrainingLog
    report: Report
    total: int

    def save(self, run: Run) -> None:
        """Write a checkpoint."""
        save_checkpoint(self.folder, self.key, run)


def take_steps(run: Run, stage: Stage, until: int, new: bool, course: Course, book: Book) -> None:
    """Train to the end of a stage, at step `until` or where its rule stops it; a new stage is first judged as it is."""
    settings, feed = course.settings, course.feed
    sources, validation = all_sources(run, stage, course)
    if new:
        evaluate(run, validation, settings, course.rule, stage.keep)
        book.save(run)
    goals = Goals(course.target, course.w2)
    first, fed = until - stage.steps, 0
    while run.step < until and not run.stopped:
        if feed is not None and feed.due(run.made) > fed:
            fed = feed.due(run.made)
            waiting = partial(book.report, run.step, book.total, stage=stage.name, waiting="for the simulation")
            sources = fed_sources(feed, fed, run, stage, course, waiting)
        x = run.model.augment(draw_batch(sources, course.groups, run.generator), run.generator)
        figures = optimise(run, stage, settings, x, goals, run.step - first, temperatures_of(sources))
        run.step += 1
        if run.step % settings.evaluate_every == 0 or run.step == until:
            judged = evaluate(run, validation, settings, course.rule, stage.keep)
            book.log.write(run.step, stage=stage.name, **judged, **figures)
        if run.step % settings.checkpoint_every == 0 or run.step == until or run.stopped:
            book.save(run)
            book.report(run.step, book.total, stage=stage.name, held_out_nll=run.held_out, skipped=run.skipped)


def enter_stage(run: Run, index: int, stage: Stage, course: Course) -> None:
    """Start from the best weights so far with a new optimiser; draw and weight samples for a refit."""
    run.stage, run.best_loss, run.bad, run.in_a_row = index, math.inf, 0, 0
    run.judged = run.rejected = False
    for model in (run.model, run.ema):
        model.load_state_dict(run.best)
    run.teacher = frozen_copy(run.ema) if stage.needs_teacher else None
    run.optimiser = new_optimiser(run.model, course.settings)
    if stage.refit_samples and course.target is not None:
        seed = seed_of(course.settings.seed, OWN, index)
        if course.rungs:
            add_own_at(run.buffer, run.ema, stage, course.target, course.unseen.temperature, course.rungs, seed)
            return
        add_own(run.buffer, run.ema, stage, course.target, course.unseen.temperature, seed)


def guard(run: Run, stage: Stage, course: Course) -> dict[str, float | str]:
    """Compare the stage's best weights with those it began with, and go back where they are worse."""
    assert course.target is not None
    run.ema.load_state_dict(run.best)
    seed = seed_of(course.settings.seed, GUARD, run.stage)
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


def _fingerprint(
    model: Trainable, data: Ensemble, stages: Sequence[Stage], settings: TrainSettings, feed: Feed | None
) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256(
        json.dumps([asdict(s) for s in stages] + [asdict(settings), asdict(model.config), shapes]).encode()
    )
    digest.update(data.positions.tobytes())
    digest.update(data.log_w.tobytes())
    if feed is not None:
        digest.update(json.dumps(feed.key).encode())
    if (rungs_of(model) or feed is not None) and data.u is not None:
        digest.update(data.u.tobytes())
    return digest.hexdigest()
