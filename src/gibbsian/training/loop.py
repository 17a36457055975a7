"""The training loop: one function that reads top to bottom."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gibbsian.chem.residues import Symmetry, symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.permutations import random_relabelling
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import stream
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended
from gibbsian.training.buffer import Buffer
from gibbsian.training.checkpoint import Run, TrainingLog, load_checkpoint, save_checkpoint
from gibbsian.training.data import Frames, Source, enrich, frames_of, split
from gibbsian.training.losses import mean_loss, reverse_kl
from gibbsian.training.stages import Stage, TrainSettings

CHUNK = 4096
EVALUATED = 8192

Model = TypeVar("Model", bound="Trainable")


class Trainable(Protocol):
    """What the loop needs of a model, besides being an `nn.Module`."""

    topology: Topology
    config: Any

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss (B,) of conformations (B, n_atoms, 3) nm, differentiable in the weights.

        Its mean by weight is minimised; conformations where it is not finite are left out. A density gives its
        negative logarithm; what noise the loss needs comes from `generator`.
        """
        ...

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations (n, n_atoms, 3) nm and log density (n,) for refit and reverse KL.

        For reverse KL they are differentiable in the weights; a model that cannot do this raises `InputError`.
        """
        ...

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) that the model gives to what no energy sees."""
        ...

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move training conformations in ways that no energy sees, as the model expects them."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Learnt weights."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All weights by name."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> Any:
        """Overwrite all weights."""
        ...


def train(
    model: Model,
    data: Ensemble,
    stages: Sequence[Stage],
    settings: TrainSettings,
    folder: Path | str,
    report: Report = silent,
    target: Target | None = None,
) -> Model:
    """Train a flow; the same call on the same folder continues with the bits of an undisturbed run.

    Batches are drawn by the ensemble's weights, relabelled by random exact symmetries and moved as the model asks. The
    result is the averaged weights with the best held-out likelihood of the last stage; every stage starts from the
    best of the one before.

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
        Energies, for stages with reverse KL or refit.

    Raises
    ------
    InputError
        If the stages need a target that is missing, or the folder holds a different training.
    """
    check_stages(model, stages, target)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    parts = split(data, settings.held_out, settings.seed)
    frames, held_out = (enrich(frames_of(part), model.topology, settings.rare_share) for part in parts)
    held_out = held_out.thinned(EVALUATED)
    # The same poses in every attempt; the run's own generator is not touched.
    held_out = Frames(model.augment(held_out.x, torch.Generator().manual_seed(settings.seed)), held_out.log_w)
    if target is not None:
        target = Extended(target, model.log_gauge)
    groups = symmetry_groups(model.topology)
    total = sum(stage.steps for stage in stages)
    key = _fingerprint(model, data, stages, settings)
    run = load_checkpoint(place, key, model, settings.weight_decay) or Run.begin(model, settings.seed)
    log = TrainingLog(place / "log.jsonl", keep_until=run.step)

    done = 0
    for index, stage in enumerate(stages):
        done += stage.steps
        if index < run.stage:
            continue
        if index > run.stage or run.optimiser is None:
            enter_stage(run, index, stage, settings, target)
        sources, validation = prepare(stage, settings, frames, held_out, run.buffer, model.topology)
        if math.isinf(run.best_loss):
            evaluate(run, validation, settings)
            save_checkpoint(place, key, run)
        first = done - stage.steps
        while run.step < done and not run.stopped:
            x = model.augment(draw_batch(sources, groups, run.generator), run.generator)
            figures = optimise(run, stage, settings, x, target, run.step - first)
            run.step += 1
            if run.step % settings.evaluate_every == 0 or run.step == done:
                evaluate(run, validation, settings)
                log.write(run.step, stage=stage.name, held_out=run.held_out, best=run.best_loss, **figures)
            if run.step % settings.checkpoint_every == 0 or run.step == done or run.stopped:
                save_checkpoint(place, key, run)
                report(run.step, total, stage=stage.name, held_out_nll=run.held_out, skipped=run.skipped)
        if run.stopped:
            run.step = done
            run.stopped = False
    model.load_state_dict(run.best)
    return model


def enter_stage(run: Run, index: int, stage: Stage, settings: TrainSettings, target: Target | None) -> None:
    """Start from the best weights so far with a new optimiser; draw and weight samples for a refit."""
    run.stage, run.best_loss, run.bad = index, math.inf, 0
    for model in (run.model, run.ema):
        model.load_state_dict(run.best)
    run.optimiser = torch.optim.AdamW(run.model.parameters(), lr=stage.lr, weight_decay=settings.weight_decay)
    if stage.refit_samples and target is not None:
        x, log_q, u = _generate(run.ema, stage.refit_samples, target, run.generator)
        run.buffer.add(x, u, log_q)


@torch.no_grad()
def _generate(model: Trainable, n: int, target: Target, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    parts = []
    for start in range(0, n, CHUNK):
        # Half the cost of `sample`; the rounding of its density is harmless here.
        x, log_q = model.rsample(min(CHUNK, n - start), generator)
        parts.append((x.float(), log_q, target.u(x).double()))
    x, log_q, u = (torch.cat(column) for column in zip(*parts, strict=True))
    return x, log_q, u


def prepare(
    stage: Stage, settings: TrainSettings, frames: Frames, held_out: Frames, buffer: Buffer, topology: Topology
) -> tuple[list[Source], list[Source]]:
    """Where a stage's batches come from, and what it is judged on: the same mix of held-out frames.

    Own samples enter in proportion to their effective number, so that a poor flow's few good ones do not take over.
    """
    if not (stage.refit_samples and buffer.x):
        return [Source(frames, stage.batch)], [Source(held_out, stage.batch)]
    out = torch.arange(len(buffer)) % 10 == 0
    refit = enrich(Frames(*buffer.merged()), topology, settings.rare_share)
    x, log_w = refit.x, refit.log_w
    own, given = ess(log_w.numpy()), ess(frames.log_w.numpy())
    n_refit = round(min(stage.refit_fraction, own / (own + given)) * stage.batch)

    def mix(given: Frames, mask: Tensor) -> list[Source]:
        parts = ((given, stage.batch - n_refit), (Frames(x[mask], log_w[mask]), n_refit))
        return [Source(part, n) for part, n in parts if n > 0]

    return mix(frames, ~out), mix(held_out, out)


def draw_batch(sources: list[Source], groups: list[Symmetry], generator: torch.Generator) -> Tensor:
    """One batch from all sources, relabelled."""
    x = torch.cat([source.frames.x[source.draw(generator)] for source in sources])
    return random_relabelling(x, groups, generator)


def optimise(
    run: Run, stage: Stage, settings: TrainSettings, x: Tensor, target: Target | None, step: int
) -> dict[str, float]:
    """Make one optimiser step and move the average; a step that is not finite is skipped and counted."""
    assert run.optimiser is not None
    noise = torch.Generator().manual_seed(stream(settings.seed, run.step))
    loss, figures = _loss(run, stage, x, noise, target)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(stage, step)
    run.optimiser.zero_grad(set_to_none=True)
    norm = torch.tensor(math.nan)
    if torch.isfinite(loss):
        loss.backward()
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip)
    if not torch.isfinite(norm):
        run.skipped += 1
        return figures | {"skipped": float(run.skipped)}
    run.optimiser.step()
    run.updates += 1
    decay = min(settings.ema, (1.0 + run.updates) / (10.0 + run.updates))
    with torch.no_grad():
        for average, current in zip(run.ema.parameters(), run.model.parameters(), strict=True):
            average.lerp_(current, 1.0 - decay)
    return figures | {"gradient": float(norm)}


def _loss(
    run: Run, stage: Stage, x: Tensor, noise: torch.Generator, target: Target | None
) -> tuple[Tensor, dict[str, float]]:
    loss = torch.zeros((), dtype=torch.float64)
    figures: dict[str, float] = {}
    if stage.w_nll > 0:
        losses = run.model.objective(x, noise)
        likelihood = mean_loss(losses)
        loss = loss + stage.w_nll * likelihood
        figures["nll"] = float(likelihood.detach())
        figures["outside"] = float((~torch.isfinite(losses)).double().mean())
    if stage.w_kl > 0 and target is not None:
        generated, log_q = run.model.rsample(stage.kl_batch, run.generator)
        divergence = reverse_kl(target.u(generated), log_q, stage.kl_drop)
        loss = loss + stage.w_kl * divergence
        figures["kl"] = float(divergence.detach())
    return loss, figures


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine to zero at the end of the stage."""
    warm = min(1.0, (step + 1) / max(stage.warmup, 1))
    return stage.lr * warm * 0.5 * (1.0 + math.cos(math.pi * step / stage.steps))


@torch.no_grad()
def evaluate(run: Run, validation: list[Source], settings: TrainSettings) -> None:
    """Weighted held-out loss of the averaged weights; keep the best, count evaluations without progress."""
    total = sum(source.n for source in validation)
    run.held_out = sum(source.n / total * held_out_loss(run.ema, source.frames, settings.seed) for source in validation)
    if run.held_out < run.best_loss:
        run.best_loss, run.bad = run.held_out, 0
        run.best = {name: tensor.clone() for name, tensor in run.ema.state_dict().items()}
    else:
        run.bad += 1
        run.stopped = run.bad >= settings.patience


def held_out_loss(model: Trainable, frames: Frames, seed: int) -> float:
    """Weighted loss over the frames inside the support, with the same noise at every call."""
    chunks = enumerate(frames.x.split(CHUNK))
    losses = torch.cat([model.objective(x, torch.Generator().manual_seed(stream(seed, k))) for k, x in chunks])
    inside = torch.isfinite(losses)
    weights = torch.softmax(torch.where(inside, frames.log_w, -torch.inf), 0)
    return float((weights * torch.where(inside, losses, 0.0)).sum())


def check_stages(model: Trainable, stages: Sequence[Stage], target: Target | None) -> None:
    """Refuse at once what would fail later.

    Raises
    ------
    InputError
        If there is no stage, or one needs a target that is missing or samples that the model does not have.
    """
    if not stages:
        raise InputError("training: no stages; give at least one")
    if target is None and any(stage.needs_target for stage in stages):
        raise InputError("training: a stage with reverse KL or refit needs a target; give one or drop the stage")
    if any(stage.w_kl > 0 for stage in stages):
        x, log_q = model.rsample(1, torch.Generator().manual_seed(0))
        if not (x.requires_grad and log_q.requires_grad):
            raise InputError(f"{type(model).__name__}: samples are not differentiable; set w_kl to 0 in every stage")


def _fingerprint(model: Trainable, data: Ensemble, stages: Sequence[Stage], settings: TrainSettings) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    digest = hashlib.sha256(
        json.dumps([asdict(s) for s in stages] + [asdict(settings), asdict(model.config), shapes]).encode()
    )
    digest.update(data.positions.tobytes())
    digest.update(data.log_w.tobytes())
    return digest.hexdigest()
