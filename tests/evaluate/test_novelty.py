from dataclasses import replace

import numpy as np
import pytest
import torch

from gibbsian.coords.align import rmsd
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.novelty import nearest, novel_structures, novelty, threshold
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.testing.toys import Toy


def helix(n: int, residues: int = 6, seed: int = 0, phi: float = -1.1, spread: float = 0.2) -> Ensemble:
    rng = np.random.default_rng(seed)
    angles = rng.normal([phi, -0.8], spread, (n, residues, 2))
    x = backbone_positions(angles[..., 0], angles[..., 1])
    return Ensemble(x, np.zeros(n), backbone_topology(residues), 300.0)


def mixed(n: int, strange: int) -> Ensemble:
    """Ordinary conformations, then strange ones."""
    a, b = helix(n, seed=5), helix(strange, seed=6, phi=-2.6)
    return Ensemble(np.concatenate([a.positions, b.positions]), np.zeros(n + strange), a.topology, 300.0)


class Springs(Toy):
    """Harmonic springs to one conformation, without its frame: minimising lands on it."""

    def __init__(self, x: np.ndarray) -> None:
        self.n_atoms = len(x)
        self.pairs = torch.triu_indices(len(x), len(x), 1)
        self.lengths = self.distances(torch.tensor(x, dtype=torch.float64)[None])

    def distances(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, self.pairs[0]] - x[:, self.pairs[1]]).norm(dim=-1)

    def _energy(self, x: torch.Tensor) -> torch.Tensor:
        return 500.0 * (self.distances(x) - self.lengths).square().sum(1)


def test_nearest_is_exact_across_pieces():
    training, q = helix(3000).positions, helix(70, seed=1, spread=0.4).positions.copy()
    q[3] = training[2500] + 1.0
    q[4, 0] = np.nan
    distance, index = nearest(q, training)
    for i in (0, 3, 69):
        every = rmsd(torch.tensor(training).double(), torch.tensor(q[i]).double())
        assert distance[i] == pytest.approx(float(every.min()), abs=1e-6)
        assert index[i] == int(every.argmin())
    assert index[3] == 2500
    assert (distance[4], index[4]) == (np.inf, -1)
    with pytest.raises(InputError, match="same atoms"):
        nearest(q[:, :5], training)


def test_threshold_is_a_quantile_of_the_nearest_distances():
    training, test = helix(200).positions, helix(100, seed=1).positions
    limit = threshold(test, training)
    assert np.mean(nearest(test, training)[0] <= limit) == pytest.approx(0.99)


def test_strange_conformations_are_novel_and_their_population_is_reweighted():
    training, test, q = helix(400), helix(300, seed=1), mixed(300, 30)
    found = novelty(q, training, test)
    assert set(range(300, 330)) <= set(found.novel.tolist())
    assert found.share == pytest.approx(30 / 330, abs=0.03)
    assert np.all(np.diff(found.distance[found.novel]) <= 0)
    assert found.population.value == pytest.approx(found.share)
    light = novelty(replace(q, log_w=np.where(np.arange(330) < 300, 0.0, -9.0)), training, test)
    assert light.population.value < 0.02
    assert 0 < light.population.error < 0.02
    assert light.novel.tolist() == found.novel.tolist()


def test_indices_skip_training_frames_of_weight_zero():
    training = helix(50)
    silent = replace(training, log_w=np.where(np.arange(50) < 40, -np.inf, 0.0))
    found = novelty(training.take(slice(40, 50)), silent, helix(40, seed=1))
    assert found.nearest.tolist() == list(range(40, 50))
    assert not len(found.novel)


def test_novel_structures_relax_towards_the_data():
    training, q = helix(100), mixed(50, 8)
    found = novelty(q, training, helix(100, seed=1))
    relaxed = novel_structures(q, found, training, Springs(training.positions[7]), most=6, n_steps=400)
    assert relaxed.index.tolist() == found.novel[:6].tolist()
    assert np.all(relaxed.after < 0.05 * relaxed.before)
    assert np.all(relaxed.nearest < found.distance[relaxed.index])
    straight = rmsd(torch.tensor(q.positions[relaxed.index]).double(), torch.tensor(relaxed.positions[0]).double())
    assert relaxed.drift_heavy[0] == pytest.approx(float(straight[0]), rel=1e-3)
    assert np.all(relaxed.drift > 0)


def test_nothing_novel_is_nothing_to_minimise():
    training = helix(50)
    found = novelty(training, training, helix(40, seed=1))
    relaxed = novel_structures(training, found, training, Springs(training.positions[0]))
    assert (len(relaxed.index), relaxed.positions.shape[0], len(relaxed.nearest)) == (0, 0, 0)
