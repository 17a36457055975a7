"""What a training works with from its first to its last step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from gibbsian.chem.residues import Symmetry, symmetry_groups
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended
from gibbsian.training.checkpoint import Run
from gibbsian.training.data import Frames, Source, enrich, split
from gibbsian.training.distance_w2 import DistanceW2, distance_w2
from gibbsian.training.early_stopping import EnergyRule, energy_rule
from gibbsian.training.feed import Feed
from gibbsian.training.improve import sources_of
from gibbsian.training.rungs import frames_at, generations_of, rungs_of, share_of
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.trainable import Trainable

EVALUATED = 8192


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
    w2
        Distance from the backbone of the data, for stages that ask for it.
    target, rule
        Energies with the gauge of the model, and the rule of stopping by them, or None.
    settings
        Rules for all stages.
    feed
        More frames that arrive on the way.
    """

    rungs: tuple[float, ...]
    frames: list[Frames]
    held_out: list[Frames]
    unseen: Ensemble
    groups: list[Symmetry]
    w2: DistanceW2 | None
    target: Extended | None
    rule: EnergyRule | None
    settings: TrainSettings
    feed: Feed | None


def lay_out(
    model: Trainable,
    data: Ensemble,
    stages: Sequence[Stage],
    settings: TrainSettings,
    target: Target | None,
    feed: Feed | None,
) -> Course:
    """Divide the data and prepare what does not change."""
    parts, rungs = split(data, settings.held_out, settings.seed), rungs_of(model)
    frames, held_out = (
        [enrich(at, model.topology, settings.rare_share) for at in frames_at(part, rungs)] for part in parts
    )
    held_out = [_posed(model, at.thinned(EVALUATED // len(held_out)), settings.seed) for at in held_out]
    extended = None if target is None else Extended(target, model.log_gauge)
    rule = energy_rule(parts[1], extended, settings) if settings.stop_on == "energy" and extended else None
    # In single precision: its rounding is far below the floor of a batch, and it takes a third of the time.
    w2 = distance_w2(parts[0], settings.w2, dtype=torch.float32) if any(stage.w_w2 > 0 for stage in stages) else None
    groups = symmetry_groups(model.topology)
    return Course(rungs, frames, held_out, parts[1], groups, w2, extended, rule, settings, feed)


def _posed(model: Trainable, frames: Frames, seed: int) -> Frames:
    """Move frames as the model asks, the same in every attempt; the run's own generator is not touched."""
    return replace(frames, x=model.augment(frames.x, torch.Generator().manual_seed(seed)))


def all_sources(run: Run, stage: Stage, course: Course) -> tuple[list[Source], list[Source]]:
    """Where a stage's batches come from, and what it is judged on: the sources of every rung in equal parts."""
    n = len(course.frames)
    own = [generations_of(run.buffer, k, n) for k in range(n)]
    found = [
        sources_of(share_of(stage, k, n), course.settings, *both, own[k], run.model.topology)
        for k, both in enumerate(zip(course.frames, course.held_out, strict=True))
    ]
    sources, validation = ([source for part in parts for source in part] for parts in zip(*found, strict=True))
    return sources, validation


def fed_sources(
    feed: Feed, n: int, run: Run, stage: Stage, course: Course, waiting: Callable[[], None]
) -> list[Source]:
    """Where batches come from with `n` portions; what is judged on stays as it is, so that losses can be compared."""
    course = replace(course, frames=feed.frames(n, course.rungs, waiting))
    return all_sources(run, stage, course)[0]
