"""Learning from own samples: draws of the model, weighted by their energies, that serve as data.

    x ~ q_teacher,   w = exp(-u_ext(x)) / q_teacher(x),   loss = -<log q>_w + penalty 0.5 <(log q - log q_teacher)^2>

The weights are exact, but those of a poor model leave few different samples. So own samples are mixed with the given
data, may be annealed towards the target first, and a guard compares the model with what it was before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.models.base import Proposal
from gibbsian.sampling.importance import stream
from gibbsian.sampling.shards import in_shards
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.targets.extended import Extended
from gibbsian.training.buffer import Buffer
from gibbsian.training.data import Frames, Source, enrich
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.streams import OWN, generator_of
from gibbsian.training.trainable import Trainable

DRAWN_AT_ONCE = 1000
MOST_COMPARED = 10_000
"""Draws of either model that the guard compares."""
LEAST_POPULATION, COVERED = 0.01, 0.1
"""A basin of the data with this weight is covered by draws that hold at least this share of it."""
ANNEALING = SmcSettings(regen=None, conditional_ess=0.9)
"""How own samples are annealed: moves in Cartesian space only, which every model affords."""


def rounds(stages: Sequence[Stage]) -> list[tuple[Stage, int]]:
    """Each stage as often as it repeats, with the number of its round, from 0."""
    return [
        (stage if k == 0 else replace(stage, name=f"{stage.name} {k + 1}"), k)
        for stage in stages
        for k in range(stage.refit_rounds)
    ]


def add_own(buffer: Buffer, model: Trainable, stage: Stage, target: Extended, temperature: float, seed: int) -> None:
    """Draw a generation of own samples, weight or anneal them, and store them."""
    if stage.refit_source == "snis":
        x, log_q, u = draw_own(model, stage.refit_samples, target, seed)
        buffer.add(x, u, log_q)
        return
    found = sample_smc(
        cast("Proposal", model),
        target.target,
        stage.refit_samples,
        topology=model.topology,
        temperature=temperature,
        settings=ANNEALING,
        seed=seed,
    )
    effective = float(found.provenance["effective"])
    assert found.log_q is not None
    x, log_w, log_q = (torch.from_numpy(column) for column in (found.positions, found.log_w, found.log_q))
    buffer.add_weighted(x, log_w, log_q, effective)


def add_own_at(
    buffer: Buffer, model: Any, stage: Stage, target: Extended, temperature: float, rungs: Sequence[float], seed: int
) -> None:
    """Draw a generation of own samples at each rung (K), for which one energy each serves, and store them.

    `temperature` is that of the target; the model gives no density to what physics does not see.
    """
    for k, rung in enumerate(rungs):
        x, log_q, u = draw_own(model.at(rung), -(-stage.refit_samples // len(rungs)), target, stream(seed, k))
        buffer.add(x, u * (temperature / rung), log_q)


@torch.no_grad()
def draw_own(model: Trainable, n: int, target: Extended, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw `n` conformations (n, n_atoms, 3), their log q and reduced energy u_ext (n,), divided over processes."""

    def some(start: int) -> tuple[Tensor, Tensor, Tensor]:
        # Half the cost of `sample`; the rounding of its density is harmless here.
        x, log_q = model.rsample(min(DRAWN_AT_ONCE, n - start), generator_of(seed, OWN, start))
        return x.float(), log_q.double(), target.u(x).double()

    parts = in_shards(range(0, n, DRAWN_AT_ONCE), some)
    x, log_q, u = (torch.cat(column) for column in zip(*parts, strict=True))
    return x, log_q, u


def sources_of(
    stage: Stage, settings: TrainSettings, frames: Frames, held_out: Frames, buffer: Buffer, topology: Topology
) -> tuple[list[Source], list[Source]]:
    """Where a stage's batches come from, and what it is judged on: the same mix of held-out frames.

    Own samples enter in proportion to their effective number, so that a poor flow's few good ones do not take over.
    """
    if not (stage.refit_samples and buffer.x):
        return [Source(frames, stage.batch)], [Source(held_out, stage.batch)]
    out = torch.arange(len(buffer)) % 10 == 0
    refit = enrich(Frames(*buffer.merged(), frames.temperature), topology, settings.rare_share)
    x, log_w = refit.x, refit.log_w
    own, given = min(ess(log_w.numpy()), buffer.effective), ess(frames.log_w.numpy())
    n_refit = round(min(stage.refit_fraction, own / (own + given)) * stage.batch)

    def mix(given: Frames, mask: Tensor) -> list[Source]:
        parts = ((given, stage.batch - n_refit), (Frames(x[mask], log_w[mask], frames.temperature), n_refit))
        return [Source(part, n) for part, n in parts if n > 0]

    return mix(frames, ~out), mix(held_out, out)


@dataclass(frozen=True)
class Quality:
    """What the guard compares.

    Attributes
    ----------
    ess
        Effective fraction of draws, unclipped.
    covered
        Basins of the held-out data that the draws reach.
    """

    ess: float
    covered: int

    def falls_behind(self, before: "Quality") -> bool:
        """Whether either got worse."""
        return self.ess < before.ess or self.covered < before.covered


def quality(model: Trainable, held_out: Ensemble, n: int, target: Extended, seed: int) -> Quality:
    """Measure a model on `n` draws, the same noise at every call, at most `MOST_COMPARED`."""
    x, log_q, u = draw_own(model, min(n, MOST_COMPARED), target, seed)
    log_w = (-u - log_q).numpy()
    masks = partial(basin_masks, model.topology)
    wanted = {name: float(held_out.weights[mask].sum()) for name, mask in masks(held_out.positions).items()}
    found = {name: float(mask.mean()) for name, mask in masks(x.numpy()).items()}
    covered = sum(found[name] >= COVERED * p for name, p in wanted.items() if p >= LEAST_POPULATION)
    return Quality(ess(np.where(np.isfinite(log_w), log_w, -np.inf)) / len(x), covered)
