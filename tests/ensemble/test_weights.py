import numpy as np
import pytest
from arviz_stats.base import array_stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gibbsian.ensemble.weights import checked, ess, k_hat, log_z, log_z_bootstrap, normalised, resample
from gibbsian.errors import InputError


def test_equal_weights():
    log_w = np.full(1000, -345.6)
    assert ess(log_w) == pytest.approx(1000)
    assert k_hat(log_w) == 0.0
    assert k_hat(log_w + 1e-13 * np.random.default_rng(0).normal(size=1000)) == 0.0
    assert log_z(log_w) == pytest.approx((-345.6, 0.0), abs=1e-7)


def test_zero_weights_count_as_samples():
    log_w = np.where(np.arange(1000) < 250, 2.0, -np.inf)
    assert ess(log_w) == pytest.approx(250)
    value, error = log_z(log_w)
    assert value == pytest.approx(2.0 + np.log(0.25))
    assert error == pytest.approx(np.sqrt(3 / 1000))
    assert normalised(log_w).sum() == pytest.approx(1)


def test_all_zero():
    log_w = np.full(100, -np.inf)
    assert ess(log_w) == 0.0
    assert k_hat(log_w) == np.inf
    assert log_z(log_w) == log_z_bootstrap(log_w) == (-np.inf, np.inf)
    with pytest.raises(InputError, match="all 100 weights are zero"):
        normalised(log_w)


@pytest.mark.parametrize(
    ("values", "what"),
    [([], "shape"), ([[1.0]], "shape"), ([0.0, np.nan], "sample 1"), ([np.inf], "sample 0")],
)
def test_refused(values, what):
    with pytest.raises(InputError, match=what):
        checked(values)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-700, 700)), st.floats(-1e3, 1e3))
def test_ess_is_scale_free_and_bounded(log_w, shift):
    value = ess(log_w)
    assert 1 - 1e-9 <= value <= len(log_w) * (1 + 1e-9)
    assert ess(log_w + shift) == pytest.approx(value, rel=1e-6)


def test_log_z_covers_the_truth():
    # w = exp(s z - s^2 / 2) has mean one.
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        z = rng.normal(size=2000)
        value, error = log_z(0.8 * z - 0.32)
        inside += abs(value) < 2 * error
    assert 180 <= inside <= 200


def test_log_z_bootstrap_agrees_with_delta_method():
    log_w = 0.7 * np.random.default_rng(2).normal(size=5000)
    delta, boot = log_z(log_w), log_z_bootstrap(log_w, repeats=400)
    assert boot.value == delta.value
    assert boot.error == pytest.approx(delta.error, rel=0.15)
    # Fifty copies of one hundred samples carry the information of one hundred.
    copies = np.repeat(log_w[:100], 50)
    blocks = log_z_bootstrap(copies, lineage=np.repeat(np.arange(100), 50), repeats=400)
    assert blocks.error == pytest.approx(log_z(log_w[:100]).error, rel=0.2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9, 1.5])
def test_k_hat_equals_arviz(shape, seed):
    log_w = np.log(np.random.default_rng(seed).pareto(1 / shape, size=3000) + 1)
    # arviz takes log likelihoods, whose importance weights are the reciprocals.
    _, expected = array_stats.psislw(-log_w)
    assert k_hat(log_w) == pytest.approx(float(expected), abs=0.02)
    assert k_hat(log_w - 1234.0) == pytest.approx(k_hat(log_w), abs=1e-6)


def test_k_hat_finds_the_shape_and_ignores_zeros():
    log_w = np.log(np.random.default_rng(3).pareto(1 / 0.8, size=40_000) + 1)
    assert k_hat(log_w) == pytest.approx(0.8, abs=0.15)
    light = np.log(np.random.default_rng(4).uniform(size=4000))
    assert k_hat(light) < 0
    assert k_hat(np.r_[light[:3], np.full(500, -np.inf)]) == np.inf


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_resampling_frequencies(scheme):
    weights = np.array([0.0, 0.5, 0.0, 0.25, 0.25, 0.0])
    index = resample(weights, 20_000, seed=1, scheme=scheme)
    assert np.bincount(index, minlength=6) / 20_000 == pytest.approx(weights, abs=0.015)
    assert (np.diff(index) >= 0).all()
    assert (weights[index] > 0).all()


def test_systematic_resampling_is_exact_for_equal_weights():
    assert np.array_equal(resample(np.ones(50), 50, seed=3), np.arange(50))
    assert len(np.unique(resample(np.ones(100), 40))) == 40
    with pytest.raises(InputError, match="unknown"):
        resample(np.ones(3), 3, scheme="residual")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not all zero"):
        resample(np.zeros(3), 3)
