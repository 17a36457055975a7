"""Trained proposals of the table `sbg`, and their weights on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gibbsian.bench.account import Meter, metered, spent_in
from gibbsian.bench.sbg_proposals import PROPOSALS, ProposalRecipe, settings_of
from gibbsian.bench.sbg_work import Desk, data, training_data
from gibbsian.ensemble.draws import thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.models.registry import Flow, load_flow
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread
from gibbsian.training.checkpoint import FILE as CHECKPOINT
from gibbsian.training.checkpoint import FORMAT as CHECKPOINT_FORMAT
from gibbsian.training.loop import train
from gibbsian.workflow.fitting import fit_flow
from gibbsian.workflow.settings import RunSettings

SNAPSHOT_FORMAT = "gibbsian-bench-snapshot-1"
FLOW = "flow.safetensors"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained proposal.

    Attributes
    ----------
    flow
        Ready to sample.
    recipe, law, seed
        How it was made, on what, and the seed of its training.
    steps
        Training steps made.
    core_seconds, data_core_seconds
        Of training, over all attempts, and of its data.
    folder
        Its training.
    """

    flow: Flow
    recipe: ProposalRecipe
    law: str
    seed: int
    steps: int
    core_seconds: float
    data_core_seconds: float
    folder: Path


def fit_once(
    desk: Desk, settings: RunSettings, folder: Path, report: Report = silent, start: Flow | None = None
) -> Flow:
    """Train a flow on the data of a desk in a folder of its own, or continue, or read it.

    Parameters
    ----------
    start
        Flow that the stages go on from; None for a new one.
    """
    if not (folder / FLOW).exists():
        frames = data(desk, report)
        folder.mkdir(parents=True, exist_ok=True)
        target = desk.target()
        with metered(folder), one_thread():
            if start is None:
                flow = fit_flow(frames, settings, folder, target, report, structure=desk.system.positions)
            else:
                flow = train(start, frames, settings.stages, settings.training, folder, report, target)
            flow.save(folder / FLOW)
    return load_flow(folder / FLOW)


def trained(desk: Desk, name: str, law: str, seed: int, report: Report = silent) -> Fitted:
    """Train a proposal, or continue, or read it."""
    recipe = PROPOSALS[name]
    # The published protocol does not level basins beyond what its data do.
    plain: Mapping[str, Any] = {} if law == "exchange" else {"rare_share": 0.0}
    steps = desk.budget.steps if law == "exchange" and seed == 0 else desk.budget.few_steps
    settings = settings_of(recipe, desk.name, steps, seed, plain)
    folder = desk.folder / f"{name}.{law}.seed{seed}"
    if not (folder / FLOW).exists():
        frames = training_data(desk, law, (settings.training.held_out, settings.training.seed), report)
        folder.mkdir(parents=True, exist_ok=True)
        total = sum(stage.steps for stage in settings.stages)
        with metered(folder) as meter, one_thread():
            keep = _Snapshots(folder, [share * total for share in desk.budget.curve], meter, report)
            fit_flow(frames, settings, folder, desk.target(), keep).save(folder / FLOW)
    _, header = read_tensors(folder / CHECKPOINT, CHECKPOINT_FORMAT)
    source = "contiguous" if law == "contiguous" else "data"
    return Fitted(
        load_flow(folder / FLOW),
        recipe,
        law,
        seed,
        int(header["step"]),
        spent_in(folder),
        spent_in(desk.folder / source),
        folder,
    )


class _Snapshots:
    """Report of a training which keeps the best averaged weights of some checkpoints, with what they cost."""

    def __init__(self, folder: Path, steps: list[float], meter: Meter, report: Report) -> None:
        self._folder, self._steps, self._meter, self._report = folder, steps, meter, report

    def __call__(self, done: float, total: float, /, **figures: float | str) -> None:
        cost = self._meter.now()
        last = max((step for step, _, _ in snapshots(self._folder)), default=0)
        if any(last < step <= done for step in self._steps):
            tensors, _ = read_tensors(self._folder / CHECKPOINT, CHECKPOINT_FORMAT)
            best = {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
            header = {"format": SNAPSHOT_FORMAT, "step": int(done), "core_seconds": cost}
            write_tensors(self._folder / f"snapshot-{int(done):07d}.safetensors", best, header)
        self._report(done, total, **figures)


def snapshots(folder: Path) -> list[tuple[int, float, Path]]:
    """Return steps, core-seconds and files of the weights that were kept, in order."""
    found = []
    for path in sorted(folder.glob("snapshot-*.safetensors")):
        _, header = read_tensors(path, SNAPSHOT_FORMAT)
        found.append((int(header["step"]), float(header["core_seconds"]), path))
    return found


def flow_at(fitted: Fitted, snapshot: Path) -> Flow:
    """Return the proposal with the weights of a snapshot."""
    flow = load_flow(fitted.folder / FLOW)
    tensors, _ = read_tensors(snapshot, SNAPSHOT_FORMAT)
    flow.load_state_dict(tensors)
    return flow


def held_out(desk: Desk, fitted: Fitted, ensemble: Ensemble, n: int, seed: int = 0) -> Ensemble:
    """Draw frames of an independent ensemble by weight and pose them as the proposal was taught."""
    drawn = thinned(ensemble, n, seed)
    moved = fitted.flow.augment(torch.from_numpy(drawn.positions), torch.Generator().manual_seed(seed))
    return replace(drawn, positions=moved.numpy())
