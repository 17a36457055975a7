import numpy as np
import pytest

from gibbsian.errors import InputError
from gibbsian.evaluate.slow_modes import features, fit_tica
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def autoregression(rate: float, n: int, rng: np.random.Generator) -> np.ndarray:
    noise = np.sqrt(1 - rate**2) * rng.normal(size=n)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = rate * x[i - 1] + noise[i]
    return x


def test_finds_the_slow_direction_and_its_timescale():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    runs, slow = [], []
    for _ in range(4):
        parts = np.stack([autoregression(r, 20_000, rng) for r in (0.98, 0.7, 0.1)], axis=1)
        slow.append(parts[:, 0])
        runs.append(parts @ mixing + 5.0)
    tica = fit_tica(runs, lag=5, n_components=2)
    assert tica.eigenvalues == pytest.approx([0.98**5, 0.7**5], abs=0.03)
    assert tica.timescales[0] == pytest.approx(-1 / np.log(0.98), rel=0.2)
    projected = np.concatenate([tica.transform(run) for run in runs])
    assert projected.std(axis=0) == pytest.approx([1, 1], abs=0.02)
    assert abs(np.corrcoef(projected[:, 0], np.concatenate(slow))[0, 1]) > 0.99


def test_pairs_never_straddle_runs():
    # Two constant-sign runs: across the seam the sign flips, within a run the correlation is one.
    rng = np.random.default_rng(1)
    runs = [np.full((50, 1), s) + 0.01 * rng.normal(size=(50, 1)) for s in (1.0, -1.0)]
    assert fit_tica(runs, lag=40, n_components=1).eigenvalues[0] > 0.99


def test_constant_and_redundant_features_are_dropped():
    x = autoregression(0.9, 20_000, np.random.default_rng(2))
    run = np.stack([x, 2 * x, np.ones_like(x)], axis=1)
    assert fit_tica([run], lag=2, n_components=1).eigenvalues[0] == pytest.approx(0.81, abs=0.05)
    with pytest.raises(InputError, match="1 moving features for 2"):
        fit_tica([run], lag=2, n_components=2)
    with pytest.raises(InputError, match="longest run has 20000 frames"):
        fit_tica([run], lag=20_000)


def test_features_of_a_peptide():
    angles = np.random.default_rng(3).uniform(-3, 3, (2, 7, 2))
    topology = backbone_topology(2)
    x = features(topology, backbone_positions(*angles))
    heavy, torsions = topology.n_atoms, 2 + 2 + 3
    assert x.shape == (7, heavy * (heavy - 1) // 2 + 2 * torsions)
    assert np.allclose(x[:, -2 * torsions : -2 * torsions + 2], np.sin(angles[0]), atol=1e-4)
