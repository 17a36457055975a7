import math

import numpy as np
import pytest

from gibbsian.ensemble.weights import log_z
from gibbsian.errors import InputError
from gibbsian.sampling.resampling import ancestry, draw_parents

WEIGHTS = np.array([0.0, 0.31, 0.02, 0.0, 0.44, 0.23])


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_mean_counts_are_proportional_to_the_weights(scheme):
    repeats, n = 3000, 6
    with np.errstate(divide="ignore"):
        log_w = np.log(WEIGHTS) + 123.0
    counts = np.array(
        [np.bincount(draw_parents(log_w, seed=seed, scheme=scheme, n=n), minlength=6) for seed in range(repeats)]
    )
    error = counts.std(axis=0) / math.sqrt(repeats)
    assert (np.abs(counts.mean(axis=0) - n * WEIGHTS) <= 4 * error + 1e-12).all()
    most = {"systematic": 1, "stratified": 2, "multinomial": math.inf}[scheme]
    assert (np.abs(counts - n * WEIGHTS) < most).all()
    assert counts[:, [0, 3]].sum() == 0


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
def test_no_index_is_out_of_range_in_large_batches(scheme):
    log_w = np.random.default_rng(0).normal(size=100_000)
    log_w[-100:] = -np.inf
    for seed in range(50):
        parents = draw_parents(log_w, seed=seed, scheme=scheme)
        assert parents[-1] < 100_000 - 100
        assert (np.diff(parents) >= 0).all()


def test_ancestors_tell_what_equal_weights_hide():
    parents = np.repeat([7, 3], [990, 10])
    found = ancestry(np.zeros(1000), parents)
    assert found.unique == 2
    assert found.effective == pytest.approx(1 / (0.99**2 + 0.01**2))
    assert found.log_z.error == pytest.approx(math.sqrt(1000 / 999 * (0.99**2 + 0.01**2 - 1 / 1000)))


def test_without_resampling_the_error_is_that_of_importance_sampling():
    log_w = np.random.default_rng(1).normal(size=2000)
    found = ancestry(log_w, np.arange(2000))
    assert found.log_z == pytest.approx(log_z(log_w), rel=1e-3)


def test_weights_of_zero():
    assert ancestry(np.full(5, -np.inf), np.arange(5)).effective == 0
    with pytest.raises(InputError, match="all 5 weights are zero"):
        draw_parents(np.full(5, -np.inf), seed=0)
