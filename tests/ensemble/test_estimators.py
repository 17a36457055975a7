import numpy as np
import pytest

from gibbsian.ensemble.estimators import circular_mean, expectation, free_energy, mean
from gibbsian.errors import InputError


def test_delta_error_agrees_with_bootstrap():
    rng = np.random.default_rng(0)
    n = 3000
    f, log_w = rng.normal(size=n), 0.8 * rng.normal(size=n)
    inside = f + 0.5 * log_w > 1.2
    draws, energies = [], []
    for _ in range(400):
        pick = rng.integers(n, size=n)
        draws.append(expectation(f[pick], log_w[pick]).value)
        energies.append(free_energy(inside[pick], log_w[pick]).value)
    assert expectation(f, log_w).error == pytest.approx(np.std(draws), rel=0.12)
    assert free_energy(inside, log_w).error == pytest.approx(np.std(energies), rel=0.12)


def test_free_energy_of_known_share():
    mask = np.arange(10_000) < 200
    value, error = free_energy(mask, np.zeros(10_000))
    assert value == pytest.approx(-np.log(0.02 / 0.98))
    assert error == pytest.approx(1 / np.sqrt(10_000 * 0.02 * 0.98))
    # Weights move the share to one half.
    assert free_energy(mask, np.where(mask, np.log(49.0), 0.0)).value == pytest.approx(0, abs=1e-12)


def test_empty_and_full_basins():
    assert free_energy(np.zeros(9, dtype=bool), np.zeros(9)) == (np.inf, np.inf)
    assert free_energy(np.ones(9, dtype=bool), np.zeros(9)) == (-np.inf, np.inf)
    with pytest.raises(InputError, match="boolean"):
        free_energy(np.zeros(9), np.zeros(9))


def test_lineage_error_is_that_of_independent_blocks():
    # Each of 60 lineages repeats one value 50 times: the error is that of 60 numbers.
    rng = np.random.default_rng(1)
    values = rng.normal(size=60)
    lineage = np.repeat(np.arange(60), 50)
    _, error = expectation(np.repeat(values, 50), np.zeros(3000), lineage=lineage)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(60), rel=0.1)
    assert expectation(np.repeat(values, 50), np.zeros(3000)).error < error / 5


def test_few_lineages_are_not_optimistic():
    rng = np.random.default_rng(2)
    errors, values = [], []
    for _ in range(300):
        sample = np.repeat(rng.normal(size=3), 10)
        value, error = expectation(sample, np.zeros(30), lineage=np.repeat(np.arange(3), 10))
        values.append(value)
        errors.append(error**2)
    assert np.mean(errors) == pytest.approx(np.var(values), rel=0.25)


def test_single_lineage_is_cut_into_stretches():
    # A slow oscillation: stretches differ, so the error exceeds that of independent samples.
    x = np.sin(np.arange(2000) * 2 * np.pi / 400)
    one = expectation(x, np.zeros(2000), lineage=np.full(2000, 7))
    assert one.error > 2 * expectation(x, np.zeros(2000)).error
    assert np.isfinite(one.error)


def test_zero_weights_are_not_looked_at():
    values, log_w = np.array([1.0, np.nan, 3.0]), np.array([0.0, -np.inf, 0.0])
    assert expectation(values, log_w).value == 2.0
    with pytest.raises(InputError, match="sample 1 is not finite"):
        expectation(values, np.zeros(3))
    with pytest.raises(InputError, match="one value per sample"):
        expectation(values[:2], np.zeros(3))


def test_arrays_per_sample():
    values = np.arange(24.0).reshape(4, 2, 3)
    value, error = mean(values, np.zeros(4))
    assert np.allclose(value, values.mean(axis=0))
    assert error.shape == (2, 3)
    with pytest.raises(InputError, match="one number"):
        expectation(values, np.zeros(4))


def test_circular_mean_crosses_the_border():
    rng = np.random.default_rng(3)
    angles = (np.pi + 0.3 * rng.normal(size=4000) + np.pi) % (2 * np.pi) - np.pi
    value, error = circular_mean(angles, np.zeros(4000))
    assert abs(abs(value) - np.pi) < 5 * error
    assert error == pytest.approx(0.3 / np.sqrt(4000), rel=0.1)
