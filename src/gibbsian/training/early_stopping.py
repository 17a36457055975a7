"""When a stage has learnt what it can: evaluations on held-out frames, and the best weights so far."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.ensemble.distances import wasserstein
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess, resample
from gibbsian.sampling.shards import in_shards
from gibbsian.targets.extended import Extended
from gibbsian.training.checkpoint import Run
from gibbsian.training.data import Source
from gibbsian.training.improve import draw_own
from gibbsian.training.stages import Keep, TrainSettings
from gibbsian.training.streams import ENERGIES, HELD_OUT, generator_of, seed_of
from gibbsian.training.trainable import CHUNK, Trainable, at_temperature

LEAST_KEPT = 10
"""Own samples within the range of held-out energies that a distance needs."""


@dataclass(frozen=True, eq=False)
class EnergyRule:
    """Stopping by the distance between energies of own samples and of held-out frames.

    Attributes
    ----------
    target
        Where energies come from.
    held_out
        (m,) u of held-out frames drawn by weight.
    """

    target: Extended
    held_out: NDArray[np.float64]


@torch.no_grad()
def energy_rule(held_out: Ensemble, target: Extended, settings: TrainSettings) -> EnergyRule:
    """Compute the energies of as many held-out frames, drawn by weight, as own samples will be compared with."""
    n = max(1, min(settings.stop_samples, int(held_out.ess)))
    drawn = held_out.take(resample(held_out.weights, n, seed=settings.seed))
    u = target.target.u(torch.from_numpy(drawn.positions).double()).numpy()
    return EnergyRule(target, u[np.isfinite(u)])


@torch.no_grad()
def evaluate(
    run: Run, validation: list[Source], settings: TrainSettings, rule: EnergyRule | None, keep: Keep = "best"
) -> dict[str, float]:
    """Judge the averaged weights, keep the best, count evaluations without progress; return figures for the log.

    Without a rule they are judged by the held-out loss, which is always measured. Where the last are kept, nothing is
    counted.
    """
    whole = sum(source.n for source in validation)
    run.held_out = sum(source.n / whole * held_out_loss(run.ema, source, settings.seed) for source in validation)
    figures = {} if rule is None else energy_figures(run.ema, rule, settings)
    score = run.held_out if rule is None else figures["energy_w1"]
    # As long as nothing can be compared, the latest weights are the best.
    if keep == "last" or score < run.best_loss or score == run.best_loss == np.inf:
        run.best_loss, run.bad = score, 0
        run.best = {name: tensor.clone() for name, tensor in run.ema.state_dict().items()}
    else:
        run.bad += 1
        run.stopped = run.bad >= settings.patience
    return {"held_out": run.held_out, "best": run.best_loss} | figures


def held_out_loss(model: Trainable, source: Source, seed: int) -> float:
    """Weighted loss over the frames inside the support, with the same noise at every call."""
    chunks = source.frames.x.split(CHUNK)
    placed = at_temperature(model, source.frames.temperature)

    def losses_of(part: int) -> Tensor:
        return placed.objective(chunks[part], generator_of(seed, HELD_OUT, part=part))

    losses = torch.cat(in_shards(range(len(chunks)), losses_of))
    inside = torch.isfinite(losses)
    weights = torch.softmax(torch.where(inside, source.frames.log_w, -torch.inf), 0)
    return float((weights * torch.where(inside, losses, 0.0)).sum())


def energy_figures(model: Trainable, rule: EnergyRule, settings: TrainSettings) -> dict[str, float]:
    """Compare the energies of own samples, the same draws at every call, with those of held-out frames.

    Returns
    -------
    ``energy_w1``, the distance (kT) of the samples within the range of held-out energies, inf where they are hardly
    any; ``kept``, their share; ``ess``, the effective fraction of all samples, unclipped.
    (arXiv 2502.18462, appendix E.)
    """
    x, log_q, u_ext = draw_own(model, settings.stop_samples, rule.target, seed_of(settings.seed, ENERGIES))
    u = (u_ext + model.log_gauge(x)).numpy()
    within = (u >= rule.held_out.min()) & (u <= rule.held_out.max())
    distance = wasserstein(u[within], rule.held_out) if within.sum() >= LEAST_KEPT else np.inf
    log_w = (-u_ext - log_q).numpy()
    effective = ess(np.where(np.isfinite(log_w), log_w, -np.inf)) / len(u)
    return {"energy_w1": distance, "kept": float(within.mean()), "ess": effective}
