import json
import math

import numpy as np
import pytest

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.comparison import StageCosts, against_exchange
from gibbsian.evaluate.results import plain
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.testing.reference import toy_reference

TOPOLOGY = backbone_topology(1)
CENTRES = np.array([[1.0, 0.5], [-1.4, -0.5], [-1.4, 2.5]])
COSTS = StageCosts(simulate=80.0, train=100.0, sample=4.0, warm_up=0.1)
WALKERS, FRAMES = 20, 256
TRUTH = {"ALA2 left": 0.1, "ALA2 alpha": 0.5, "ALA2 beta": 0.4}


def positions(island: np.ndarray) -> np.ndarray:
    angles = CENTRES[island] + 0.2 * np.random.default_rng(0).normal(size=(len(island), 2))
    return backbone_positions(angles[:, :1], angles[:, 1:])


def samples(n: int = 4096, left: float = 0.1, seed: int = 0) -> Ensemble:
    island = np.random.default_rng(seed).choice(3, size=n, p=[left, 0.5, 0.5 - left])
    return Ensemble(positions(island), np.zeros(n), TOPOLOGY, 300.0, log_q=np.zeros(n))


def simulation(relaxing: int = 0, seed: int = 1) -> Ensemble:
    """Walkers with a frame in three from anywhere, the others like their predecessor; the first ones all left."""
    rng = np.random.default_rng(seed)
    island = rng.choice(3, size=(WALKERS, FRAMES), p=[0.1, 0.5, 0.4])
    for frame in range(1, FRAMES):
        stays = rng.random(WALKERS) < 2 / 3
        island[stays, frame] = island[stays, frame - 1]
    island[: WALKERS // 2, :relaxing] = 0
    return Ensemble(
        positions(island.ravel()),
        np.zeros(island.size),
        TOPOLOGY,
        300.0,
        lineage=np.repeat(np.arange(WALKERS), FRAMES),
        provenance={"statistics": {"frames_per_walker": FRAMES}},
    )


def test_both_pay_for_what_they_need():
    found = against_exchange(samples(), simulation(), None, COSTS, reliable=True)
    assert json.loads(json.dumps(plain(found), allow_nan=False))
    flow, exchange = (found["curves"][name]["measured"] for name in ("flow", "replica_exchange"))
    assert [len(flow), len(exchange)] == [8, 8]
    assert flow[-1]["core_seconds"] == 184.0
    assert flow[0]["core_seconds"] == 180 + 4 / 128
    assert exchange[-1]["core_seconds"] == pytest.approx(80.0)
    assert exchange[0]["core_seconds"] == pytest.approx(8 + 72 / 128)
    # The left basin is the worst: P = 0.1 of independent samples has an error sqrt(1 / (n P (1 - P))).
    assert flow[-1]["error"] == pytest.approx(1 / math.sqrt(4096 * 0.09), rel=0.05)
    assert exchange[-1]["error"] == pytest.approx(math.sqrt(5 / (WALKERS * FRAMES * 0.09)), rel=0.35)
    assert found["flow"] == pytest.approx(180 + 4 * (flow[-1]["error"] / 0.1) ** 2)
    assert found["replica_exchange"] == pytest.approx(8 + 72 * (exchange[-1]["error"] / 0.1) ** 2)
    assert "difference" not in flow[-1]
    assert found["difference"] == {"flow": None, "replica_exchange": None}


def test_what_is_expected_goes_on_from_what_was_measured():
    found = against_exchange(samples(), simulation(), None, COSTS, reliable=True)
    for curve in found["curves"].values():
        first, last = curve["expected"][0], curve["expected"][-1]
        assert first["error"] == pytest.approx(curve["measured"][-1]["error"])
        assert first["core_seconds"] == pytest.approx(curve["measured"][-1]["core_seconds"])
        assert last["core_seconds"] == pytest.approx(2 * 184)
    equal = found["same_cost"]
    assert equal["core_seconds"] == 184.0
    assert equal["flow"] == found["curves"]["flow"]["measured"][-1]["error"]
    whole = found["curves"]["replica_exchange"]["measured"][-1]["error"]
    assert equal["replica_exchange"] == pytest.approx(whole * math.sqrt(72 / 176))
    assert 0 < found["break_even"] < 0.1
    assert f"below {found['break_even']:.2g} kT" in found["explanation"]


def test_dear_samples_never_pay():
    dear = StageCosts(simulate=80.0, train=100.0, sample=4000.0, warm_up=0.1)
    found = against_exchange(samples(), simulation(), None, dear, reliable=True)
    assert found["break_even"] == 0.0
    assert "Replica exchange is the cheaper one at any accuracy." in found["explanation"]


def test_unreliable_weights_reach_nothing():
    found = against_exchange(samples(), simulation(), None, COSTS, reliable=False)
    assert found["flow"] is found["break_even"] is found["same_cost"]["flow"] is None
    assert found["replica_exchange"] is not None
    assert "weights are not reliable" in found["explanation"]


def test_a_certified_reference_refuses_what_is_wrong():
    certified = toy_reference(samples(), TRUTH, error=0.02)
    good = against_exchange(samples(), simulation(), certified, COSTS, reliable=True)
    assert good["flow"] is not None
    assert good["difference"]["flow"] < 0.2
    assert "relax" not in good["explanation"]
    shifted = against_exchange(samples(left=0.16), simulation(), certified, COSTS, reliable=True)
    assert shifted["flow"] is None
    assert "ALA2 left is 0.5" in shifted["explanation"]


def test_frames_that_still_relax_are_noticed():
    certified = toy_reference(samples(), TRUTH, error=0.02)
    found = against_exchange(samples(), simulation(relaxing=12), certified, COSTS, reliable=True)
    first = found["curves"]["replica_exchange"]["measured"][0]
    assert first["difference"] > 1
    assert "still relax from their hot start" in found["explanation"]


def test_basins_that_count():
    data = simulation()
    assert set(basin_masks(TOPOLOGY, data.positions)) == set(TRUTH)
    never = {**TRUTH, "ALA2 left": 5e-4}
    only_common = against_exchange(samples(), data, toy_reference(samples(), never), COSTS, reliable=True)
    both = only_common["curves"]["flow"]["measured"][-1]["error"]
    assert both == pytest.approx(1 / math.sqrt(4096 * 0.24), rel=0.1), "the rare basin is not looked at"
    lost = against_exchange(samples(left=0.0), data, None, COSTS, reliable=True)
    assert lost["flow"] is None
    assert "ALA2 left was not found" in lost["explanation"]
    assert lost["curves"]["flow"] == {"measured": [], "expected": []}
