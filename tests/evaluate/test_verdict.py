import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.verdict import BasinShare, judge, k_hat_limit
from gibbsian.sampling.forward import ForwardEss
from gibbsian.testing.toys import toy_system

TOPOLOGY = toy_system(np.zeros((1, 3))).topology


def ensemble(log_w: np.ndarray) -> Ensemble:
    return Ensemble(np.zeros((len(log_w), 1, 3), np.float32), log_w, TOPOLOGY, 300.0)


def good(n: int = 2000) -> Ensemble:
    return ensemble(np.random.default_rng(0).uniform(0, 1, n))


def test_good():
    whole = (BasinShare("ALA2 left", 0.018, 0.019),)
    verdict = judge(good(), basins=whole, forward=ForwardEss(0.5, 300))
    assert verdict.reliable
    assert "not tested" not in verdict.reasons[0]
    alone = judge(good())
    assert alone.reliable
    assert (
        "not tested: lost basins (no reference, or no residue with phi and psi), coverage (no held-out frames)"
        in alone.reasons[0]
    )


def test_heavy_tail():
    log_w = np.log(np.random.default_rng(1).pareto(1 / 0.95, 100_000) + 1)
    verdict = judge(ensemble(log_w))
    assert not verdict.reliable
    assert any("tail" in reason and "0.70" in reason for reason in verdict.reasons)


def test_few_samples():
    verdict = judge(good(90))
    assert not verdict.reliable
    assert "effective samples of 90" in verdict.reasons[0]
    assert not judge(ensemble(np.full(500, -np.inf))).reliable


@pytest.mark.parametrize(("mine", "theirs", "reliable"), [(0.001, 0.02, False), (0.0, 0.009, True), (0.01, 0.02, True)])
def test_lost_basin(mine, theirs, reliable):
    verdict = judge(good(), basins=(BasinShare("ALA2 left", mine, theirs),))
    assert verdict.reliable is reliable
    assert any("ALA2 left is lost" in reason for reason in verdict.reasons) is not reliable


def test_forward_below_a_tenth_of_reverse():
    reverse = good().ess_fraction
    assert not judge(good(), forward=ForwardEss(0.09 * reverse, 300)).reliable
    assert judge(good(), forward=ForwardEss(0.11 * reverse, 300)).reliable
    rare = judge(good(), forward=ForwardEss(1e-9, 300, missed=0.002, covered=reverse))
    assert rare.reliable
    assert "but for 0.20% of their weight" in rare.reasons[0]
    assert not judge(good(), forward=ForwardEss(1e-9, 300, missed=0.02, covered=reverse)).reliable
    assert not judge(good(), forward=ForwardEss(1e-9, 300, missed=0.002, covered=0.09 * reverse)).reliable


def test_reasons_are_sentences():
    log_w = np.log(np.random.default_rng(1).pareto(1 / 1.5, 1000) + 1)
    verdict = judge(ensemble(log_w), basins=(BasinShare("A", 0, 0.5),), forward=ForwardEss(0.0, 9))
    assert len(verdict.reasons) == 4
    assert all(reason.endswith(".") and ":" in reason and "\n" not in reason for reason in verdict.reasons)


def test_limit():
    assert k_hat_limit(10_000) == 0.7
    assert k_hat_limit(1000) == pytest.approx(2 / 3)
    assert k_hat_limit(100) == pytest.approx(0.5)
    assert k_hat_limit(10) == 0.0
