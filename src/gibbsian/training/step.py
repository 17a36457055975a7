"""One optimiser step: loss, gradient over all processes, running average."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gibbsian.errors import InputError
from gibbsian.parallel.group import my_rows, rank, sum_gradients, total
from gibbsian.targets.extended import Extended
from gibbsian.threads import quick_products
from gibbsian.training.checkpoint import Run
from gibbsian.training.distance_w2 import DistanceW2
from gibbsian.training.losses import gentle, mean_loss, pull, reverse_kl
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.streams import NOISE, generator_of
from gibbsian.training.trainable import Trainable, at_temperature

MOST_SKIPPED = 20
"""Steps in a row that may be skipped before training gives up."""


class Goals(NamedTuple):
    """What generated conformations are held against: energies with the gauge of the model, and backbone distances."""

    target: Extended | None = None
    w2: DistanceW2 | None = None


@quick_products()
def optimise(
    run: Run,
    stage: Stage,
    settings: TrainSettings,
    x: Tensor,
    goals: Goals,
    step: int,
    temperature: Tensor | None = None,
) -> dict[str, float]:
    """Make one optimiser step on a batch `x`, of which each process takes its rows, and move the average.

    `temperature` (B,) is that of each conformation, for a model that holds a range. A step whose loss or gradient is
    not finite is skipped and counted.

    Raises
    ------
    InputError
        After `MOST_SKIPPED` skipped steps in a row.
    """
    assert run.optimiser is not None
    noise = generator_of(settings.seed, NOISE, run.step, rank())
    loss, shares = _loss(run, stage, x, noise, goals, temperature)
    value, *others = total(torch.stack([loss.detach(), *shares.values()])).tolist()
    figures = dict(zip(shares, others, strict=True))
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(stage, step)
    run.optimiser.zero_grad(set_to_none=True)
    norm = torch.tensor(math.nan)
    if math.isfinite(value):
        loss.backward()
        sum_gradients(run.model.parameters())
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip)
    if not torch.isfinite(norm):
        run.skipped, run.in_a_row = run.skipped + 1, run.in_a_row + 1
        if run.in_a_row >= MOST_SKIPPED:
            raise InputError(
                f"training: {MOST_SKIPPED} steps in a row had no finite loss or gradient (stage {stage.name}, step "
                f"{step}); lower lr, lengthen warmup, or check the data and their energies"
            )
        return figures | {"skipped": float(run.skipped)}
    run.in_a_row = 0
    run.optimiser.step()
    run.updates += 1
    decay = min(settings.ema, (1.0 + run.updates) / (10.0 + run.updates))
    move_average = get_ema_multi_avg_fn(decay)
    move_average(list(run.ema.parameters()), list(run.model.parameters()), run.updates)
    return figures | {"gradient": float(norm)}


def _loss(
    run: Run, stage: Stage, x: Tensor, noise: torch.Generator, goals: Goals, temperature: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return this process's shares of the loss and of figures; over all processes they add up."""
    loss = torch.zeros((), dtype=torch.float64)
    shares: dict[str, Tensor] = {}
    if stage.w_nll > 0:
        rows = my_rows(len(x))
        mine, heat = x[rows], None if temperature is None else temperature[rows]
        model = at_temperature(run.model, heat)
        if stage.refit_penalty == 0:
            losses = model.objective(mine, noise)
        else:
            log_q = model.log_prob(mine)
            penalty = mean_loss(pull(log_q, _density(at_temperature(run.teacher, heat), mine)))
            loss, losses = loss + stage.refit_penalty * penalty, -log_q
            shares["penalty"] = penalty
        likelihood = mean_loss(losses)
        loss = loss + stage.w_nll * likelihood
        shares |= {"nll": likelihood, "outside": (~torch.isfinite(losses)).double().sum() / len(x)}
    if stage.generates:
        draw = run.model.rsample_slice if stage.generated == "slice" else run.model.rsample
        generated, log_q = draw(stage.kl_batch, run.generator)
        if stage.w_kl > 0 and goals.target is not None:
            u = gentle(*goals.target.u_and_grad(generated.detach()), generated)
            shares["kl"] = reverse_kl(u, log_q, stage.kl_drop)
            loss = loss + stage.w_kl * shares["kl"]
        if stage.w_w2 > 0 and goals.w2 is not None:
            shares["w2"] = goals.w2(generated)
            loss = loss + stage.w_w2 * shares["w2"]
    return loss, {name: share.detach().double() for name, share in shares.items()}


@torch.no_grad()
def _density(teacher: Trainable, x: Tensor) -> Tensor:
    return teacher.log_prob(x)


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine to zero at the end of the stage."""
    warm = min(1.0, (step + 1) / max(stage.warmup, 1))
    return stage.lr * warm * 0.5 * (1.0 + math.cos(math.pi * step / stage.steps))
