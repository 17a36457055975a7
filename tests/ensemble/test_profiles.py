import numpy as np
import pytest

from gibbsian.ensemble.estimators import mean
from gibbsian.ensemble.profiles import angle_profile, shares


def test_profile_of_weighted_uniform_angles() -> None:
    """Uniform angles weighted by exp(cos) have the free energy -cos, and errors that hold."""
    theta = np.random.default_rng(0).uniform(-np.pi, np.pi, 100_000)
    lineage = np.arange(100_000) % 20
    found = angle_profile(theta, np.cos(theta), lineage=lineage, bins=24)
    deviation = found.free_energy + np.cos(found.centres)
    deviation -= deviation.mean()
    assert found.free_energy.min() == 0.0
    assert found.error.max() < 0.04
    assert np.abs(deviation / found.error).max() < 5
    assert 0.5 < (deviation / found.error).std() < 1.6


def test_empty_bins_are_infinite_and_borders_belong_somewhere() -> None:
    found = angle_profile(np.array([np.pi, -np.pi + 1e-9, 0.1]), np.zeros(3), lineage=np.arange(3), bins=4)
    assert found.free_energy.tolist() == pytest.approx([0.0, np.inf, np.log(2), np.inf])
    assert np.isinf(found.error[[1, 3]]).all()


@pytest.mark.parametrize("blocks", [None, 12, 1])
def test_shares_are_averages_of_indicators(blocks):
    rng = np.random.default_rng(3)
    which, log_w = rng.integers(0, 4, 600), rng.normal(size=600)
    log_w[:20] = -np.inf
    lineage = None if blocks is None else rng.integers(0, blocks, 600)
    p, error = shares(which, 5, log_w, lineage=lineage)
    value, expected = mean(which[:, None] == np.arange(5), log_w, lineage=lineage)
    assert np.allclose(p, value)
    assert np.allclose(error, expected)
    assert p[4] == error[4] == 0
