"""What a training refuses before its first step."""

from collections.abc import Sequence

import torch

from gibbsian.errors import InputError
from gibbsian.models.base import Proposal
from gibbsian.parallel.group import size
from gibbsian.targets.base import Target
from gibbsian.training.rungs import RUNGS, rungs_of
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.trainable import Trainable


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
        if any(stage.generates or stage.refit_source != "snis" for stage in stages) or settings.stop_on == "energy":
            raise InputError(
                f"{name}: with model.temperatures, w_kl, w_w2, refit_source: smc and stop_on: energy would serve one "
                "temperature only; leave them out"
            )
        if min(stage.batch for stage in stages) < RUNGS:
            raise InputError(f"training: a batch is divided over {RUNGS} temperatures; raise batch")
    if any(stage.refit_samples for stage in stages) and not isinstance(model, Proposal):
        raise InputError(f"{name}: has no density, so its samples have no weights; set refit_samples to 0")
    if any(stage.refit_penalty > 0 for stage in stages) and not _differentiable_density(model):
        raise InputError(f"{name}: log q is not differentiable in the weights; set refit_penalty to 0")
    for kind in {stage.generated for stage in stages if stage.generates}:
        _check_generated(model, kind)


def _check_generated(model: Trainable, kind: str) -> None:
    """Refuse what cannot send gradients through its own conformations."""
    name = type(model).__name__
    if size() > 1:
        raise InputError(
            "training: reverse KL and W2 run in one process only; set w_kl and w_w2 to 0 or start without torchrun"
        )
    draw = getattr(model, "rsample_slice", None) if kind == "slice" else model.rsample
    if draw is None:
        raise InputError(f"{name}: freezes no coordinates; set generated to all in every stage")
    x, log_q = draw(1, torch.Generator().manual_seed(0))
    if not (x.requires_grad and log_q.requires_grad):
        raise InputError(f"{name}: samples are not differentiable; set w_kl and w_w2 to 0 in every stage")


def _differentiable_density(model: Trainable) -> bool:
    with torch.no_grad():
        x, _ = model.rsample(1, torch.Generator().manual_seed(0))
    return model.log_prob(x).requires_grad
