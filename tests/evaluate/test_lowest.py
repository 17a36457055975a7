from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.lowest import lowest_energies
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.units import kt


def copies(turns: list[float]) -> tuple[Ensemble, np.ndarray]:
    """One conformation of ACE-(ALA)6-NME and others with the psi of residue 3 turned by so many rad."""
    psi = np.full((len(turns) + 1, 6), -0.8)
    psi[1:, 2] += turns
    x = backbone_positions(np.full_like(psi, -1.1), psi)
    n = len(turns)
    return Ensemble(x[1:], np.zeros(n), backbone_topology(6), 300.0, u=np.arange(n, dtype=float)), x[0]


def serines() -> tuple[Topology, np.ndarray]:
    """Four serines of N, CA, C, CB, OG anywhere, apart from each other."""
    names = ("N", "CA", "C", "CB", "OG")
    bonds = [(5 * r + a, 5 * r + b) for r in range(4) for a, b in ((0, 1), (1, 2), (1, 3), (3, 4))]
    bonds = sorted(bonds + [(5 * r + 2, 5 * r + 5) for r in range(3)])
    topology = Topology(
        names * 4, tuple(name[0] for name in names) * 4, np.repeat(np.arange(4), 5), ("SER",) * 4, tuple("1234"),
        np.array(bonds),
    )  # fmt: skip
    x = np.random.default_rng(0).normal(scale=0.1, size=(20, 3)) + np.repeat(np.arange(4.0), 5)[:, None]
    return topology, x


def test_duplicates_are_left_out_and_the_order_is_that_of_energies():
    ensemble, start = copies([0.0, 0.01, 1.0, 0.02, 1.01, -1.0])
    ensemble = replace(ensemble, u=np.array([5.0, 4.0, 3.0, 2.0, 1.0, np.nan]))
    found = lowest_energies(ensemble, start)
    assert found.index.tolist() == [4, 3]
    assert found.energies == pytest.approx([kt(300), 2 * kt(300)])
    assert found.rmsd_ca[1] < 0.01 < found.rmsd_ca[0]
    assert lowest_energies(ensemble, start, duplicate=1e-4).index.tolist() == [4, 3, 2, 1, 0]
    assert lowest_energies(ensemble, start, n=1).index.tolist() == [4]


def test_positions_are_superposed_on_the_backbone_of_the_start():
    ensemble, start = copies([0.0])
    turned = Rotation.from_rotvec([0.3, 2.0, -1.0]).apply(ensemble.positions[0]) + 4
    found = lowest_energies(replace(ensemble, positions=turned[None].astype(np.float32)), start)
    assert found.positions[0] == pytest.approx(start, abs=1e-5)
    assert found.rmsd_heavy[0] == pytest.approx(0, abs=1e-5)


def test_side_chains_agree_within_forty_degrees_and_clashes_are_counted():
    topology, start = serines()
    x = np.stack([start] * 3)
    for k, degrees in enumerate((39.0, 41.0, -170.0)):
        axis = start[5 * k + 3] - start[5 * k + 1]
        turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
        x[0, 5 * k + 4] = start[5 * k + 3] + turn.apply(start[5 * k + 4] - start[5 * k + 3])
    x[1, 4] = start[19] + [0.01, 0.0, 0.0]
    ensemble = Ensemble(x.astype(np.float32), np.zeros(3), topology, 300.0, u=np.array([1.0, 2.0, 3.0]))
    found = lowest_energies(ensemble, start, duplicate=-1.0)
    assert found.chi1[[0, 2]] == pytest.approx([0.5, 1.0])
    near = np.linalg.norm(x[1, 15:] - x[1, 4], axis=1) < 0.22
    assert found.clashes.tolist() == [0, int(near.sum()), 0]
    rows = found.rows()
    assert rows[2]["sample"] == 2
    assert rows[0]["chi1_agreement"] == pytest.approx(0.5)


def test_without_side_chains_or_energies():
    ensemble, start = copies([0.0])
    assert np.isnan(lowest_energies(ensemble, start).chi1).all()
    with pytest.raises(InputError, match="no finite energies"):
        lowest_energies(replace(ensemble, u=np.array([np.inf])), start)
    with pytest.raises(InputError, match="start structure"):
        lowest_energies(ensemble, start[:5])
