import numpy as np
import pytest

from gibbsian.ensemble.pair_distances import longest_distance, pair_distance_density

RNG = np.random.default_rng(0)
X = RNG.normal(0, 0.3, (500, 7, 3)).astype(np.float32)
EDGES = np.linspace(0, 3.0, 61)


def brute(x, weights):
    first, second = np.triu_indices(x.shape[1], 1)
    d = np.linalg.norm(x[:, first] - x[:, second], axis=-1)
    w = np.broadcast_to(weights[:, None] / len(first), d.shape)
    return np.histogram(d.ravel(), EDGES, weights=w.ravel())[0] / np.diff(EDGES)


@pytest.mark.parametrize("chunk", [1_000_000, 50])
def test_density_is_the_histogram_of_all_pairs(monkeypatch, chunk):
    monkeypatch.setattr("gibbsian.ensemble.pair_distances._CHUNK", chunk)
    weights = RNG.dirichlet(np.ones(len(X)))
    weights[:40] = 0
    weights /= weights.sum()
    density = pair_distance_density(X, weights, EDGES)
    assert np.allclose(density, brute(X, weights), atol=1e-4)
    assert density.sum() * EDGES[1] == pytest.approx(1.0, abs=1e-6)


def test_what_is_outside_the_edges_is_missing():
    equal = np.full(len(X), 1 / len(X))
    short = pair_distance_density(X, equal, np.linspace(0, 0.3, 31))
    assert short.sum() * 0.01 == pytest.approx(brute(X, equal)[:6].sum() * 0.05, abs=1e-3)


def test_many_distances_are_drawn_by_weight():
    weights = np.zeros(len(X))
    weights[[3, 9]] = 0.75, 0.25
    spread = 0.999 * weights + 0.001 / len(X)
    thinned = pair_distance_density(X, spread, EDGES, most=21 * 200)
    assert np.allclose(thinned, brute(X, weights), atol=0.03)


def test_longest_distance_is_that_of_weighted_conformations():
    x = np.zeros((3, 2, 3))
    x[:, 1, 0] = 1.0, 2.5, 40.0
    assert longest_distance(x, np.array([0.5, 0.5, 0.0])) == pytest.approx(2.5)
