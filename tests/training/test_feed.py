from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.mbar import temperature_weights
from gibbsian.dynamics.simulate import simulate
from gibbsian.dynamics.stream import Portion, Stream, streamed
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.progress import Report
from gibbsian.testing.toys import toy_system
from gibbsian.testing.training import check_resumable
from gibbsian.training.data import split
from gibbsian.training.feed import Feed, Streaming
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.units import kt

LADDERS, LEVELS = 12, 2
SETTINGS = ExchangeSettings(temperatures=(300.0, 450.0), ladders=LADDERS)
TRAINING = TrainSettings(held_out=0.2)
DIMER = toy_system(np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]])).topology


def waits() -> None:
    pytest.fail("nothing to wait for")


def portion(k: int, frames: int) -> Portion:
    """Frames that know whose they are: x is the ladder, y the portion."""
    lineage = np.repeat(np.arange(LADDERS), LEVELS * frames)
    x = np.zeros((len(lineage), 2, 3), dtype=np.float32)
    x[:, 0, 0], x[:, 0, 1] = lineage, k
    energy = np.random.default_rng(k).gamma(3.0, np.tile(np.repeat([2.5, 3.7], frames), LADDERS))
    return Portion(x, energy, lineage)


class Prepared:
    """A stream whose portions are there at once."""

    settings = SETTINGS

    def __init__(self) -> None:
        self.ordered = 0

    def order(self, n: int) -> None:
        self.ordered = n

    def take(self, k: int, waiting: Callable[[], None]) -> Portion:
        assert k < self.ordered
        return portion(k + 1, 5)


def first_data() -> Ensemble:
    first = portion(0, 10)
    return Ensemble(
        first.positions, np.zeros(len(first.energy)), DIMER, 300.0, u=first.energy / kt(300.0), lineage=first.lineage
    )


def new_feed(steps: int = 100, **settings: Any) -> tuple[Feed, Prepared]:
    stream = Prepared()
    streaming = Streaming(**{"every": 10, "frames": 5, **settings})
    return Feed(cast("Stream", stream), streaming, first_data(), [Stage("nll", steps)], TRAINING), stream


def test_ladders_held_out_are_never_drawn() -> None:
    held_out = split(first_data(), TRAINING.held_out, TRAINING.seed)[1].lineage
    assert held_out is not None
    unseen = np.unique(held_out)
    feed, _ = new_feed()
    feed.due(40)
    (frames,) = feed.frames(4, (), waits)
    ladders = np.unique(frames.x[:, 0, 0])
    assert len(unseen) == 2
    assert len(ladders) == LADDERS - 2
    assert not np.isin(ladders, unseen).any()
    assert torch.isfinite(frames.log_w).all()


def test_portions_come_at_fixed_steps_and_no_more_than_are_of_use() -> None:
    feed, stream = new_feed(steps=60)
    assert [feed.due(steps) for steps in (0, 9, 10, 25, 59)] == [0, 0, 1, 2, 5]
    assert stream.ordered == 5


def test_the_window_keeps_the_latest_portions() -> None:
    feed, _ = new_feed(window=2)
    feed.due(30)
    (frames,) = feed.frames(1, (), waits)
    assert frames.x[:, 0, 1].unique().tolist() == [0.0, 1.0]
    (frames,) = feed.frames(3, (), waits)
    assert frames.x[:, 0, 1].unique().tolist() == [2.0, 3.0]
    whole, _ = new_feed()
    whole.due(30)
    (all_frames,) = whole.frames(3, (), waits)
    latest = all_frames.x[:, 0, 1] >= 2
    assert torch.equal(frames.x, all_frames.x[latest])
    assert torch.equal(frames.log_w, all_frames.log_w[latest]), "weights come from everything that has arrived"


def test_weights_are_those_of_all_that_has_arrived() -> None:
    feed, _ = new_feed()
    feed.due(10)
    (frames,) = feed.frames(1, (), waits)
    parts = [portion(0, 10), portion(1, 5)]
    energy = np.concatenate([part.energy for part in parts])
    counts = torch.full((LEVELS,), len(energy) // LEVELS)
    betas = torch.tensor([1.0 / kt(t) for t in (300.0, 450.0)], dtype=torch.float64)
    expected, _ = temperature_weights(torch.from_numpy(energy), counts, betas, 1.0 / kt(300.0))
    seen = np.isin(np.concatenate([part.lineage for part in parts]), frames.x[:, 0, 0].unique())
    difference = frames.log_w - expected[torch.from_numpy(seen)]
    assert float(difference.std()) < 1e-9, "log weights are known up to a constant"
    assert float(frames.log_w.std()) > 0.1


def test_what_is_wrong_is_told_in_one_line() -> None:
    for name in ("every", "frames", "window"):
        with pytest.raises(InputError, match=f"stream: {name}: got 0; give a positive number"):
            Streaming(**{name: 0})
    data = first_data()
    few = data.take(data.lineage < 9) if data.lineage is not None else data
    with pytest.raises(InputError, match=r"raise data\.ladders"):
        Feed(cast("Stream", Prepared()), Streaming(), few, [Stage("nll", 10)], TRAINING)


@pytest.mark.parametrize("temperatures", [None, (300.0, 450.0)])
def test_streamed_training_is_resumable(tmp_path: Path, temperatures: tuple[float, float] | None) -> None:
    system = System.from_sequence("ACE-GLY-NME", "amber14", "obc2")
    short = replace(
        SETTINGS, steps=200, equilibration=40, exchange_every=10, save_every=20, shard=10, start_steps=50
    )  # fmt: skip
    source = tmp_path / "data"
    data = simulate(system, short, source)
    stages = [Stage("one", 16, batch=32, warmup=2), Stage("two", 14, batch=32, warmup=2)]
    training = TrainSettings(evaluate_every=5, checkpoint_every=5, patience=2, ema=0.9)
    config = SplineConfig(couplings=(2, 2, 2), bins=4, hidden=16, temperatures=temperatures)
    new = torch.from_numpy(np.array(data.positions))

    def fit(folder: Path, report: Report, every: int = 7) -> dict[str, Tensor]:
        flow = SplineFlow.from_data(system.topology, new, config=config)
        with streamed(source, folder / "stream", system, 3) as stream:
            feed = Feed(stream, Streaming(every, 3), data, stages, training)
            trained = train(flow, data, stages, training, folder, report, feed=feed)
        return {name: tensor.clone() for name, tensor in trained.state_dict().items()}

    check_resumable(fit, tmp_path, stops=(1, 2, 1))
    with pytest.raises(InputError, match="other data, stages or settings"):
        fit(tmp_path / "parts", lambda done, total, /, **figures: None, every=8)
