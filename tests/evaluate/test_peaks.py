import numpy as np
import pytest
from scipy.stats import norm

from gibbsian.errors import InputError
from gibbsian.evaluate.peaks import energy_peaks


def second_mode(rng: np.random.Generator, n: int = 10_000, share: float = 0.05, deviation: float = 3.0) -> np.ndarray:
    return rng.normal(scale=deviation, size=n) + 10.0 * (rng.random(n) < share)


def test_one_gaussian_is_one_peak():
    rng = np.random.default_rng(0)
    counts = [energy_peaks(rng.normal(-40, 5, 10_000)).count for _ in range(40)]
    assert np.mean(np.array(counts) == 1) >= 0.95


def test_a_small_mode_ten_kt_higher_is_found():
    rng = np.random.default_rng(1)
    for _ in range(10):
        peaks = energy_peaks(second_mode(rng))
        assert peaks.count == 2
        assert peaks.mixture.shares[1] == pytest.approx(0.05, abs=0.03)
        assert peaks.mixture.means == pytest.approx([0, 10], abs=2)
        assert peaks.mixture.deviations == pytest.approx([3, 3], abs=1)


def test_bic_is_that_of_the_likelihood():
    x = np.random.default_rng(2).normal(3, 2, 5000)
    bic = -2 * norm.logpdf(x, x.mean(), x.std()).sum() + 2 * np.log(5000)
    assert energy_peaks(x).bic[0] == pytest.approx(bic, abs=2)  # bins blur a little


def test_three_modes_and_their_members():
    rng = np.random.default_rng(3)
    truth = rng.integers(3, size=6000)
    u = rng.normal(12.0 * truth, 1.0)
    peaks = energy_peaks(u)
    assert peaks.count == 3
    assert peaks.mixture.maxima == 3
    assert np.mean(peaks.members(u) == truth) > 0.999
    assert peaks.members(np.array([1e9, np.nan])).tolist() == [-1, -1]


def test_a_skewed_peak_has_one_maximum():
    # The energy of 20 harmonic coordinates: not a Gaussian, but nobody would call it two peaks.
    u = np.random.default_rng(4).gamma(10.0, size=20_000)
    peaks = energy_peaks(u)
    assert peaks.count > 1
    assert peaks.mixture.maxima == 1


def test_clashes_are_outside_and_counted():
    rng = np.random.default_rng(5)
    u = np.concatenate([rng.normal(size=900), np.full(60, 1e10), np.full(30, np.inf), np.full(10, np.nan)])
    peaks = energy_peaks(u)
    assert peaks.count == 1
    assert peaks.n == 900
    assert peaks.outside == pytest.approx(0.1)


def test_too_few_values_are_refused():
    for bad in (np.zeros(50), np.arange(19.0), np.full(30, np.nan)):
        with pytest.raises(InputError, match="give at least 20"):
            energy_peaks(bad)
