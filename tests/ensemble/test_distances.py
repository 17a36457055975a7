import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from gibbsian.ensemble.distances import (
    histogram,
    plane_w2,
    ramachandran_jsd,
    ramachandran_tv,
    split_reference,
    torus_w2,
    wasserstein,
)
from gibbsian.errors import InputError


def test_w1_equals_scipy_with_weights():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=157), rng.normal(0.5, 2, size=210)
    wa, wb = rng.random(157), rng.random(210)
    expected = wasserstein_distance(a, b, wa, wb)
    assert wasserstein(a, b, weights_a=wa, weights_b=wb) == pytest.approx(expected)
    assert wasserstein(a, a) == 0.0


def test_w2_of_known_cases():
    rng = np.random.default_rng(1)
    a = rng.normal(size=4001)
    assert wasserstein(a, 3 * a + 2, order=2) == pytest.approx(np.sqrt(np.mean((np.sort(3 * a + 2) - np.sort(a)) ** 2)))
    # Half of the mass moves by 4: W1 = 2, W2 = sqrt(8).
    points, weights = np.array([0.0, 4.0]), np.array([1.0, 1.0])
    assert wasserstein(np.zeros(1), points, weights_b=weights, order=1) == pytest.approx(2)
    assert wasserstein(np.zeros(3), points, weights_b=weights, order=2) == pytest.approx(np.sqrt(8))


def test_infinite_energies_of_weight_zero_are_ignored():
    a = np.array([1.0, np.inf, 2.0])
    assert wasserstein(a, np.array([1.0, 2.0]), weights_a=np.array([1.0, 0.0, 1.0])) == 0.0
    with pytest.raises(InputError, match="finite"):
        wasserstein(a, np.ones(2))


def test_torus_distance_is_periodic_and_exact():
    a = np.array([[3.1, -3.1], [0.0, 0.0]])
    b = np.array([[0.1, 0.0], [-3.1, 3.1]])
    arc = 2 * np.pi - 6.2
    assert torus_w2(a, b) == pytest.approx(np.sqrt((2 * arc**2 + 0.01) / 2))
    with pytest.raises(InputError, match="one shape"):
        torus_w2(a, b[:1])


def test_torus_distance_of_uniform_samples():
    # Known finite-sample value: two uniform sets of 1000 points on the 2-torus are 0.21 rad apart.
    a, b = np.random.default_rng(2).uniform(-np.pi, np.pi, (2, 1000, 2))
    assert torus_w2(a, b) == pytest.approx(0.211, abs=0.03)


def test_plane_distance():
    a = np.random.default_rng(3).normal(size=(50, 2))
    assert plane_w2(a, a[::-1] + np.array([3.0, 4.0])) == pytest.approx(5.0)


def test_ramachandran_extremes():
    a = np.full((10, 2, 2), -1.0)
    b = a.copy()
    b[:, 1] = 1.0  # one of two residues in another square
    assert ramachandran_jsd(a, a) == ramachandran_tv(a, a) == 0.0
    assert ramachandran_jsd(a, b) == pytest.approx(0.5)
    assert ramachandran_tv(a, b) == pytest.approx(0.5)
    assert histogram(np.array([[[np.pi, -np.pi]]]), 4)[0, 0, 0] == 1.0


def test_split_keeps_blocks_together():
    blocks = np.repeat(np.arange(7), [3, 1, 4, 1, 5, 9, 2])
    first, second = split_reference(blocks, seed=0)
    assert sorted([*first, *second]) == list(range(25))
    assert not set(blocks[first]) & set(blocks[second])
    assert not np.array_equal(first, split_reference(blocks, seed=3)[0])
    with pytest.raises(InputError, match="1 block"):
        split_reference(np.zeros(5, dtype=np.int64), seed=0)
