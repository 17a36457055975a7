"""The state of a training run, saved so that it continues bit by bit."""

import copy
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.files import write_text
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.parallel.group import is_first
from gibbsian.training.buffer import Buffer
from gibbsian.training.stages import TrainSettings

FORMAT = "gibbsian-training-1"
FILE = "checkpoint.safetensors"
_COUNTERS = (
    *("step", "stage", "updates", "skipped", "in_a_row"),
    *("best_loss", "held_out", "bad", "stopped", "judged", "rejected", "notes"),
)
_PARTS = ("model", "ema", "best", "teacher", "buffer", "optimiser")


@dataclass
class Run:
    """Everything that changes while training.

    Attributes
    ----------
    model, ema
        The flow and its running average.
    best
        Averaged weights that held-out data found best in this stage, at `best_loss`.
    teacher
        The model as the stage found it, where the stage keeps it as a teacher; None elsewhere.
    optimiser
        None before the first stage.
    generator
        The only source of randomness.
    buffer
        The flow's own weighted samples.
    step, stage, updates
        Steps so far over all stages, index of the stage, steps that moved the weights.
    skipped, in_a_row
        Steps that were not finite, and how many of them came last without another one between.
    held_out, bad, stopped
        Last held-out loss, evaluations without progress, whether the stage ended early.
    judged, rejected
        Whether the guard has compared the stage with what was before, and taken that back.
    notes
        What else the training has to remember, in terms of JSON.
    """

    model: Any
    ema: Any
    best: dict[str, Tensor]
    generator: torch.Generator
    teacher: Any = None
    optimiser: torch.optim.AdamW | None = None
    buffer: Buffer = field(default_factory=Buffer)
    step: int = 0
    stage: int = 0
    updates: int = 0
    skipped: int = 0
    in_a_row: int = 0
    best_loss: float = math.inf
    held_out: float = math.inf
    bad: int = 0
    stopped: bool = False
    judged: bool = False
    rejected: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, model: Any, seed: int) -> Self:
        """State before the first step."""
        best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return cls(model, copy.deepcopy(model), best, torch.Generator().manual_seed(seed))

    @property
    def made(self) -> int:
        """Steps made, without those that a stage left out because it ended early."""
        return self.updates + self.skipped


def new_optimiser(model: Any, settings: TrainSettings) -> torch.optim.AdamW:
    """Return an optimiser without memory; its learning rate is set at each step."""
    return torch.optim.AdamW(model.parameters(), betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def save_checkpoint(folder: Path, key: str, run: Run) -> None:
    """Write the whole state to one file; only the first of several processes does."""
    if not is_first():
        return
    assert run.optimiser is not None
    tensors: dict[str, Tensor] = {"generator": run.generator.get_state()}
    parts = {"model": run.model.state_dict(), "ema": run.ema.state_dict(), "best": run.best}
    parts |= {"buffer": run.buffer.tensors(), "teacher": {} if run.teacher is None else run.teacher.state_dict()}
    for part, entries in parts.items():
        tensors |= {f"{part}.{name}": tensor.clone() for name, tensor in entries.items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    header = {"format": FORMAT, "key": key} | {name: getattr(run, name) for name in _COUNTERS}
    write_tensors(folder / FILE, tensors, header)


def load_checkpoint(folder: Path, key: str, model: Any, settings: TrainSettings) -> Run | None:
    """Read the state into `model` and a new `Run`; None where there is no checkpoint.

    Raises
    ------
    InputError
        If the checkpoint is damaged or belongs to another training.
    """
    if not (folder / FILE).exists():
        return None
    tensors, header = read_tensors(folder / FILE, FORMAT)
    if header["key"] != key:
        raise InputError(f"{folder}: holds a training with other data, stages or settings; choose another folder")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in _PARTS}
    state = tensors.pop("generator")
    for name, tensor in tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    run = Run.begin(model, 0)
    run.generator.set_state(state)
    run.model.load_state_dict(parts["model"])
    run.ema.load_state_dict(parts["ema"])
    run.best, run.buffer = parts["best"], Buffer.from_tensors(parts["buffer"])
    if parts["teacher"]:
        run.teacher = frozen_copy(run.ema)
        run.teacher.load_state_dict(parts["teacher"])
    for name in _COUNTERS:
        setattr(run, name, header[name])
    run.optimiser = new_optimiser(model, settings)
    groups = run.optimiser.state_dict()["param_groups"]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        index, moment = name.split(".", 1)
        moments.setdefault(int(index), {})[moment] = tensor
    run.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return run


def frozen_copy(model: Any) -> Any:
    """Return a copy that does not learn."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


class TrainingLog:
    """One JSON object per line, written by the first of several processes.

    Lines behind the last checkpoint are dropped on resume, they will come again.
    """

    def __init__(self, path: Path, keep_until: int) -> None:
        self._path = path
        if not is_first():
            return
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= keep_until]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, step: int, **figures: float | str) -> None:
        """Append one line."""
        if not is_first():
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf
