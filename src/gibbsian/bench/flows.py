"""Table `flows`: shapes of the spline flow by what their training buys, and the speed of its kernels.

Rows of a system: ``SHAPE.steps@N`` is maximum likelihood of one shape on dense replica exchange, of which no frame
comes often, judged on an independent simulation; ``speed`` compares compiled splines with those in torch, in one
process.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.bench import references
from gibbsian.bench.account import spent_in
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.sbg_training import fit_once
from gibbsian.bench.sbg_work import Budget, Desk, reference
from gibbsian.bench.tables import Place
from gibbsian.ensemble.draws import thinned
from gibbsian.models.layers import coupling
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis
from gibbsian.threads import one_thread, quick_products
from gibbsian.workflow.settings import RunSettings, resolve_settings

SHAPES: dict[str, Mapping[str, Any]] = {
    "default": {},
    "fewer-torsion-layers": {"couplings": (8, 2, 2)},
    "traded": {"couplings": (8, 6, 6)},
    "wide": {"hidden": 128},
    "bins16": {"bins": 16},
    "autoregressive-large": {"layers": "autoregressive", "couplings": (4, 3, 3), "hidden": 128},
}
"""Replacements in `SplineConfig`, by the name that rows begin with."""

COLUMNS = (
    "nll",
    "ess_fraction",
    "core_seconds_training",
    "milliseconds_step",
    "seconds_10k_samples",
    "parameters",
    "compiled_over_torch_training",
    "compiled_over_torch_sampling",
)
"""What is shown of each row."""


@dataclass(frozen=True)
class Size:
    """What rows of a system cost: dynamics, shapes and their training steps, and frames and draws that judge."""

    dynamics: references.Budget
    shapes: tuple[str, ...] = tuple(SHAPES)
    steps: int = 3_000
    unseen: int = 20_000
    draws: int = 20_000
    rounds: int = 7


SIZES = {
    "ACE-ALA-NME@amber96": Size(references.DENSE),
    "ACE-AAA-NME@amber96": Size(references.DENSE, shapes=("default", "traded")),
}
SPEED, TRAIN_SEED = "speed", 0
BATCH = 256


def rows() -> list[RowKey]:
    """Every row, systems from small to large."""
    keys = []
    for system, size in SIZES.items():
        keys += [RowKey("flows", system, f"{shape}.steps@{size.steps}", TRAIN_SEED) for shape in size.shapes]
        keys += [RowKey("flows", system, SPEED)]
    return keys


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Make one row, and the simulations that it needs where they are not there yet.

    Raises
    ------
    StoppedError
        If `report` asked to stop; the same call continues.
    """
    size = SIZES[key.system]
    desk = Desk(key.system, Budget(size.dynamics, contiguous_ns=0, steps=0), place.work / "flows" / key.system)
    desk.folder.mkdir(parents=True, exist_ok=True)
    if key.row == SPEED:
        return Row(key, _speed(desk, size, report), {"rounds": size.rounds, "batch": BATCH}, hardware())
    shape = key.row.partition(".")[0]
    settings = settings_of(shape, size, key.system)
    folder = desk.folder / f"{shape}.steps{size.steps}"
    flow = fit_once(desk, settings, folder, report)
    metrics = _judged(desk, flow, size, report)
    spent = spent_in(folder)
    metrics |= {
        "core_seconds_training": Metric(spent),
        "milliseconds_step": Metric(1000 * spent / size.steps),
    }
    return Row(key, metrics, {"model": asdict(settings.model), "batch": BATCH}, hardware())


def settings_of(shape: str, size: Size, system: str) -> RunSettings:
    """Resolve the settings of a training that nothing ends before its last step."""
    stage = {"name": "nll", "steps": size.steps, "batch": BATCH}
    given = {
        "recipe": "spline",
        "seed": TRAIN_SEED,
        "system": {"source": system},
        "model": SHAPES[shape],
        "stages": [stage],
        "training": {"patience": size.steps, "held_out": 0.02},
    }
    return resolve_settings(given, "bench flows")


@torch.no_grad()
def _judged(desk: Desk, flow: Any, size: Size, report: Report) -> dict[str, Metric]:
    """Score a flow on frames of the reference and on its own draws."""
    frames = thinned(reference(desk, report), size.unseen)
    with one_thread():
        nll = -flow.log_prob(torch.from_numpy(frames.positions).double()).numpy()
        began = time.process_time()
        system = desk.system
        drawn = sample_snis(
            flow, desk.target(), size.draws, topology=system.topology, temperature=system.temperature, seed=1
        )
        seconds = time.process_time() - began
    inside = np.isfinite(nll)
    return {
        "nll": Metric(float(nll[inside].mean()), float(nll[inside].std(ddof=1) / np.sqrt(inside.sum()))),
        "outside": Metric(float(np.mean(~inside))),
        "ess_fraction": Metric(drawn.ess / size.draws),
        "log_z": Metric(drawn.log_z.value, drawn.log_z.error),
        "seconds_10k_samples": Metric(10_000 * seconds / size.draws),
        "parameters": Metric(sum(p.numel() for p in flow.parameters())),
    }


def _speed(desk: Desk, size: Size, report: Report) -> dict[str, Metric]:
    """Time training steps and draws with and without the compiled splines, in turns, one thread."""
    frames = thinned(reference(desk, report), size.unseen)
    x = torch.from_numpy(frames.positions)
    flow = SplineFlow.from_data(frames.topology, x, config=SplineConfig())

    def step() -> None:
        _train_once(flow, x[:BATCH])

    def draw() -> None:
        flow.sample(1000, torch.Generator().manual_seed(0))

    metrics = {}
    with one_thread():
        for name, work in (("training", step), ("sampling", draw)):
            fast, plain = zip(*(_both(work) for _ in range(size.rounds)), strict=True)
            ratios = np.array(plain) / np.array(fast)
            metrics[f"compiled_over_torch_{name}"] = Metric(float(np.median(ratios)), float(ratios.std(ddof=1)))
            metrics[f"milliseconds_{name}"] = Metric(1000 * median(fast))
    return metrics


@quick_products()
def _train_once(flow: SplineFlow, x: Tensor) -> None:
    flow.zero_grad(set_to_none=True)
    (-flow.log_prob(x).mean()).backward()


def _both(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of some work with compiled splines and with those in torch."""
    seconds, known = [], coupling.can_couple
    try:
        for usable in (known, lambda _: False):
            coupling.can_couple = usable
            work()
            began = time.perf_counter()
            for _ in range(5):
                work()
            seconds.append((time.perf_counter() - began) / 5)
    finally:
        coupling.can_couple = known
    return seconds[0], seconds[1]
