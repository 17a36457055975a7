"""Replica exchange at equal cost, with an account that is known beforehand."""

from dataclasses import replace
from pathlib import Path

import pytest

from gibbsian.bench import references, sbg_work
from gibbsian.bench.sbg_work import Budget, Desk, equal_cost
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.files import read_json, write_json

PER_STEP = 0.01
SHORT = references.Budget(ns=0.2, ladders=4, t_max=400, frame_ps=1, runs=32, run_ns=0.2, lag_ps=50)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Simulations that cost 500 core-seconds to begin with, which a copy does not pay again."""

    def simulated(desk: Desk, name: str, settings: ExchangeSettings, _: object) -> int:
        steps, place = settings.steps + settings.equilibration, desk.folder / name / "cost.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"core_seconds": 500.0 + PER_STEP * steps})
        return steps

    monkeypatch.setattr(sbg_work, "simulated", simulated)
    return Desk("ACE-ALA-NME", Budget(SHORT, contiguous_ns=0, steps=0), tmp_path)


def spent(folder: Path) -> float:
    return float(read_json(folder / "cost.json")["core_seconds"])


@pytest.mark.parametrize("cost", [900.0, 5_000.0])
def test_all_is_spent_however_dear_the_beginning(desk: Desk, cost: float) -> None:
    steps = equal_cost(desk, cost, "seed0")
    assert spent(desk.folder / "equal-cost-seed0") == pytest.approx(cost, rel=0.02)
    assert equal_cost(desk, cost, "seed0") == steps


def test_data_that_cost_more_are_taken_as_they_are(desk: Desk) -> None:
    assert equal_cost(desk, 1.0, "seed0") == equal_cost(desk, 2.0, "seed0")
    assert [place.name for place in desk.folder.iterdir()] == ["data"]
    dearer = replace(desk, budget=replace(desk.budget, dynamics=replace(SHORT, ns=0.4)))
    assert equal_cost(dearer, 1.0, "seed0") > equal_cost(desk, 1.0, "seed0")
