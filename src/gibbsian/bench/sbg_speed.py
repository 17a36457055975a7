"""Speeds of the table `sbg`: the published design beside ours in one run, and the time that each method needs.

Contenders take turns; a figure is the median over rounds, a ratio the median of the ratios within each round, and
errors are half the range.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.sbg_work import Desk
from gibbsian.models.layers.autoregressive import AutoregressiveBlock
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import TarFlowConfig
from gibbsian.potentials import potential
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread

PREFIX = "speed."
SAMPLES = 10_000
"""Conformations that the times of inference are for."""


@dataclass(frozen=True)
class Sizes:
    """How much is timed: rounds, conformations in a batch, and those of a loop over single ones."""

    rounds: int = 5
    batch: int = 256
    single: int = 200


SIZES = Sizes()


def rows(systems: list[str]) -> list[RowKey]:
    """Comparisons on the first system, and inference on all."""
    first = [RowKey("sbg", systems[0], PREFIX + name) for name in ("tokens", "cache", "energies")]
    return first + [RowKey("sbg", system, PREFIX + "inference") for system in systems]


def owns(key: RowKey) -> bool:
    """Whether a row is made here."""
    return key.row.startswith(PREFIX)


def run(key: RowKey, desk: Desk, report: Report = silent) -> Row:
    """Make one row, on one thread."""
    make: dict[str, Callable[[Desk, Report], tuple[dict[str, Metric], dict[str, Any]]]] = {
        "tokens": _tokens,
        "cache": _cache,
        "energies": _energies,
        "inference": _inference,
    }
    with one_thread():
        metrics, notes = make[key.row.removeprefix(PREFIX)](desk, report)
    return Row(key, metrics, {**asdict(SIZES), **notes, "threads": 1}, hardware())


def untrained(desk: Desk, config: TarFlowConfig) -> TarFlow:
    """Make a flow whose weights are random, which costs what a trained one costs."""
    return TarFlow.from_data(desk.system.topology, conformations(desk, 64).float(), config=config)


def conformations(desk: Desk, n: int) -> Tensor:
    """Return the structure displaced by 0.005 nm, (n, N, 3)."""
    noise = torch.randn(n, desk.system.n_atoms, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.from_numpy(desk.system.positions).double() + 0.005 * noise


def turns(contenders: Mapping[str, Callable[[], object]], rounds: int, report: Report) -> dict[str, list[float]]:
    """Seconds of each contender in each round; a round before the first is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for done in range(rounds + 1):
        for name, work in contenders.items():
            began = time.perf_counter()
            work()
            if done:
                found[name].append(time.perf_counter() - began)
        report(done, rounds)
    return found


def middle(values: Sequence[float]) -> Metric:
    """Median and half the range."""
    return Metric(median(values), (max(values) - min(values)) / 2)


def ratio(slow: list[float], fast: list[float]) -> Metric:
    """Median of the ratios within each round."""
    return middle([a / b for a, b in zip(slow, fast, strict=True)])


def _tokens(desk: Desk, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Atoms as tokens against coordinates as tokens, with the same blocks and width."""
    config = TarFlowConfig()
    x, n = conformations(desk, SIZES.batch), SIZES.batch
    work: dict[str, Callable[[], object]] = {}
    for tokens in ("atom", "coordinate"):
        flow = untrained(desk, replace(config, tokens=tokens))
        work[f"{tokens}_training"] = lambda flow=flow: _step(flow, x)
        work[f"{tokens}_sampling"] = lambda flow=flow: flow.sample(n, torch.Generator().manual_seed(0))
    seconds = turns(work, SIZES.rounds, report)
    metrics = {f"{name}_seconds": middle(values) for name, values in seconds.items()}
    for what in ("training", "sampling"):
        metrics[f"ratio_{what}"] = ratio(seconds[f"coordinate_{what}"], seconds[f"atom_{what}"])
    return metrics, {"model": asdict(config)}


def _step(flow: TarFlow, x: Tensor) -> None:
    """One gradient of the likelihood with respect to the weights."""
    flow.zero_grad(set_to_none=True)
    (-flow.log_prob(x).mean()).backward()


def _cache(desk: Desk, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Keys and values kept while sampling against a parallel pass for every token."""
    config = TarFlowConfig()
    flow = untrained(desk, config)
    shape = (SIZES.batch, *flow.mask.shape)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * flow.mask
    work = {"cached": lambda: inverted(flow, z, recompute=False), "recomputed": lambda: inverted(flow, z, True)}
    seconds = turns(work, SIZES.rounds, report)
    metrics = {f"{name}_seconds": middle(values) for name, values in seconds.items()}
    return metrics | {"ratio": ratio(seconds["recomputed"], seconds["cached"])}, {"model": asdict(config)}


@torch.no_grad()
def inverted(flow: TarFlow, z: Tensor, recompute: bool) -> Tensor:
    """Tokens (B, T, p) of base variables, by the blocks' own inverse or without any cache."""
    for block in reversed(flow.blocks):
        assert isinstance(block, AutoregressiveBlock)
        z = recomputed(block, z) if recompute else block.inverse(z)[0]
    return z


@torch.no_grad()
def recomputed(block: AutoregressiveBlock, z: Tensor) -> Tensor:
    """Inverse of a block which sends all tokens so far through the network for every new one."""

    def turned(tokens: Tensor) -> Tensor:
        return tokens.flip(-2) if block.reverse else tokens

    z, mask, position = turned(z), turned(block.mask), turned(block.position)
    x = z.clone()
    first = 1 if block.start is None else 0
    for j in range(first, z.shape[1]):
        e = block.embed(x[:, :j]) + position[:j]
        if block.start is not None:
            e = torch.cat([block.start.expand(len(z), 1, -1), e], 1)
        x[:, j], _ = block.map.from_base(z[:, j], block.transformer(e)[:, -1], mask[j])
    return turned(x)


def _energies(desk: Desk, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Energies and forces of a batch against one conformation at a time, by the same engine and by OpenMM."""
    x, n = conformations(desk, SIZES.batch), SIZES.single
    engine = potential(desk.system, threads=1)
    openmm = OpenMMPotential(desk.system.openmm_system, workers=1)

    def loop(force: Any) -> None:
        for k in range(n):
            force.energy_and_force(x[k % len(x)][None])

    work = {
        "batched": lambda: engine.energy_and_force(x),
        "one_by_one": lambda: loop(engine),
        "openmm_one_by_one": lambda: loop(openmm),
    }
    found = turns(work, SIZES.rounds, report)
    counts = {"batched": len(x), "one_by_one": n, "openmm_one_by_one": n}
    per = {name: [s / counts[name] for s in values] for name, values in found.items()}
    metrics = {f"{name}_rate": middle([1 / s for s in values]) for name, values in per.items()}
    metrics["ratio"] = ratio(per["one_by_one"], per["batched"])
    metrics["ratio_openmm"] = ratio(per["openmm_one_by_one"], per["batched"])
    return metrics, {"unit": "conformations per second"}


def _inference(desk: Desk, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Seconds for 10,000 conformations by each method, from the measured times of its parts."""
    config, n = TarFlowConfig(), SIZES.batch
    flow, target = untrained(desk, config), desk.target()
    x, z = conformations(desk, n), torch.Generator()
    work: dict[str, Callable[[], object]] = {
        "draw": lambda: flow.sample(n, z.manual_seed(0)),
        "density": lambda: flow.log_prob(x),
        "density_gradient": lambda: flow.log_prob_and_grad(x),
        "energy": lambda: target.u(x),
        "force": lambda: target.u_and_grad(x),
    }
    seconds = turns(work, SIZES.rounds, report)
    per = {name: [s * SAMPLES / n for s in values] for name, values in seconds.items()}
    levels = desk.budget.levels
    sums: dict[str, tuple[float, float, float, float, float]] = {
        "proposal": (1, 0, 0, 0, 0),
        "snis": (1, 0, 0, 1, 0),
        "smc_gradients": (1, 0, levels, 1, levels),
        "smc_rwm": (1, levels, 0, 1 + levels, 0),
        "smc_regen": (1 + levels, 0, 0, 1 + levels, 0),
    }
    metrics = {f"{name}_seconds": middle(values) for name, values in per.items()}
    for name, counts in sums.items():
        totals = [sum(c * s for c, s in zip(counts, parts, strict=True)) for parts in zip(*per.values(), strict=True)]
        metrics[f"{name}_seconds"] = middle(totals)
    return metrics, {"samples": SAMPLES, "levels": levels, "model": asdict(config), "derived_from_parts": True}
