"""Samples of a run that resemble none of its training data."""

import numpy as np
import pytest
import torch

from gibbsian.coords.align import rmsd
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.testing.toys import Toy
from gibbsian.workflow.novel import FURTHEST, novel

TOPOLOGY = backbone_topology(6)


class Flat(Toy):
    """No force: a minimum is where it began."""

    def _energy(self, x: torch.Tensor) -> torch.Tensor:
        return 0.0 * x.square().sum((1, 2))


def helix(n: int, seed: int, phi: float = -1.1) -> Ensemble:
    rng = np.random.default_rng(seed)
    angles = rng.normal([phi, -0.8], 0.2, (n, 6, 2))
    return Ensemble(backbone_positions(angles[..., 0], angles[..., 1]), np.zeros(n), TOPOLOGY, 300.0)


def flat() -> Flat:
    potential = Flat()
    potential.n_atoms = TOPOLOGY.n_atoms
    return potential


def test_strange_samples_are_found_and_stand_before_the_nearest_frame():
    plain, strange = helix(60, 5), helix(20, 6, phi=-2.6)
    both = Ensemble(np.concatenate([plain.positions, strange.positions]), np.zeros(80), TOPOLOGY, 300.0)
    training = helix(300, 0)
    record, pairs = novel(both, training, helix(100, 1), flat())
    assert record["n"] == 80
    assert record["share"] == pytest.approx(0.25, abs=0.06)
    assert record["population"]["value"] == pytest.approx(record["share"])
    furthest = [one["distance"] for one in record["structures"]]
    assert furthest == sorted(furthest, reverse=True)
    assert len(furthest) == FURTHEST
    assert pairs.shape == (2 * FURTHEST, TOPOLOGY.n_atoms, 3)
    names = np.array(TOPOLOGY.atom_names)
    carbons = torch.tensor(pairs[:, names == "CA"]).double()
    for k, distance in enumerate(furthest):
        assert float(rmsd(carbons[2 * k][None], carbons[2 * k + 1])[0]) == pytest.approx(distance, abs=1e-4)
    assert all(one["drift"] < 1e-6 for one in record["structures"])


def test_samples_like_the_data_leave_nothing_to_show():
    training = helix(200, 0)
    record, pairs = novel(training, training, helix(50, 1), flat())
    assert (record["share"], record["structures"], len(pairs)) == (0.0, [], 0)
