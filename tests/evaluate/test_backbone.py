from dataclasses import replace

import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.backbone import backbone_distances, delta_d, delta_mean, energy_statistics, rmsf
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def helix(n: int, residues: int = 6, seed: int = 0, phi: float = -1.1, spread: float = 0.2) -> Ensemble:
    rng = np.random.default_rng(seed)
    angles = rng.normal([phi, -0.8], spread, (n, residues, 2))
    x = backbone_positions(angles[..., 0], angles[..., 1])
    return Ensemble(x, np.zeros(n), backbone_topology(residues), 300.0)


def naive(q: np.ndarray, p: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    i, j = np.triu_indices(q.shape[1], 1)
    a, b = (np.linalg.norm(x[:, i] - x[:, j], axis=-1) for x in (q, p))
    return 10 * float(np.einsum("a,b,ab->", w / w.sum(), v / v.sum(), np.abs(a[:, None] - b[None]).mean(-1)))


def test_delta_d_is_the_mean_over_all_cross_pairs():
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(15, 5, 3)), rng.normal(size=(9, 5, 3))
    w, v = rng.random(15), rng.random(9)
    assert delta_d(q, p) == pytest.approx(naive(q, p, np.ones(15), np.ones(9)), rel=1e-12)
    assert delta_d(q, p, weights_q=w, weights_p=v) == pytest.approx(naive(q, p, w, v), rel=1e-12)
    assert delta_d(q, p) == pytest.approx(delta_d(p, q), rel=1e-12)


def test_delta_d_of_known_distances_is_in_angstrom():
    def pair(lengths: list[float]) -> np.ndarray:
        return np.array([[[0.0, 0, 0], [length, 0, 0]] for length in lengths])

    assert delta_d(pair([0.5]), pair([0.8])) == pytest.approx(3.0)
    assert delta_d(pair([0.1, 0.3]), pair([0.1, 0.3])) == pytest.approx(1.0)  # not zero for equal sets
    assert delta_mean(pair([0.1, 0.3]), pair([0.1, 0.3])) == pytest.approx(0.0)
    heavy = np.array([1.0, 3.0])
    assert delta_mean(pair([0.1, 0.3]), pair([0.1]), weights_q=heavy) == pytest.approx(1.5)


def test_delta_d_refuses_what_cannot_be_compared():
    with pytest.raises(InputError, match="the same ones"):
        delta_d(np.zeros((3, 4, 3)), np.zeros((3, 5, 3)))
    with pytest.raises(InputError, match="for 3 conformations"):
        delta_d(np.zeros((3, 4, 3)), np.zeros((3, 4, 3)), weights_q=np.zeros(3))


def test_distances_from_data_stand_beside_their_floors():
    data, same, other = helix(600), helix(400, seed=1), helix(400, seed=2, phi=-1.6)
    (near, near_mean), (far, far_mean) = backbone_distances(same, data), backbone_distances(other, data)
    assert near.value == pytest.approx(near.floor, rel=0.1)
    assert far.value > 2 * far.floor
    assert near_mean.value < 3 * near_mean.floor < 0.2 * near.value
    assert far_mean.value > 10 * far_mean.floor
    assert near.n == 400
    assert [near.name, near_mean.name] == ["delta_d_backbone", "delta_mean_backbone"]
    # Weights that keep half of a mixture bring it back to the data.
    both = Ensemble(
        np.concatenate([same.positions, other.positions]), np.repeat([0.0, -50.0], 400), data.topology, 300.0
    )
    assert backbone_distances(both, data)[0].value == pytest.approx(near.value, rel=0.02)
    plain = backbone_distances(both, data, weighted=False)[0]
    assert near.value < plain.value < far.value
    assert plain.name == "delta_d_backbone_unweighted"


def test_distances_hardly_depend_on_the_number_of_conformations():
    data, same = helix(600), helix(400, seed=1)
    few, all_of_them = (backbone_distances(same, data, n=n, atoms="ca")[0] for n in (100, 10_000))
    assert few.value == pytest.approx(all_of_them.value, rel=0.1)
    assert few.floor == pytest.approx(all_of_them.floor, rel=0.1)


def test_rmsf_of_known_fluctuations():
    # One alpha carbon moves along x; ten that stand still hold the frame.
    rng = np.random.default_rng(1)
    still = helix(1, residues=12).positions
    x = np.repeat(still, 3000, axis=0)
    carbon = 3 * 6 + 3
    step = rng.normal(scale=0.01, size=3000)
    x[:, carbon, 0] += step.astype(np.float32)
    ensemble = Ensemble(x, np.where(step > 0, 0.0, -np.inf), backbone_topology(12), 300.0)
    assert ensemble.topology.atom_names[carbon] == "CA"
    found = rmsf(ensemble, weighted=False)
    moving = int(np.flatnonzero(found.residues == ensemble.topology.residue_index[carbon])[0])
    assert found.values.argmax() == moving
    assert found.values[moving] == pytest.approx(0.01, rel=0.2)
    assert np.delete(found.values, moving).max() < 0.004
    assert found.errors[moving] == pytest.approx(found.values[moving] / np.sqrt(2 * 3000), rel=0.1)
    # Half a Gaussian has the deviation sqrt(1 - 2 / pi).
    assert rmsf(ensemble).values[moving] / found.values[moving] == pytest.approx(0.603, abs=0.03)


def test_rmsf_does_not_see_rotations_and_uses_lineages():
    ensemble = helix(200)
    first = rmsf(ensemble)
    angle = np.random.default_rng(2).uniform(0, 6, 200)
    turn = np.zeros((200, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0], turn[:, 2, 2] = -np.sin(angle), np.sin(angle), 1
    moved = (np.einsum("bai,bij->baj", ensemble.positions, turn) + 3).astype(np.float32)
    lineages = np.arange(200) // 50
    second = rmsf(replace(ensemble, positions=moved, lineage=lineages))
    assert second.values == pytest.approx(first.values, rel=1e-3)
    assert not np.allclose(second.errors, first.errors, rtol=1e-3)


def test_energy_statistics_of_all_and_of_the_lower_half():
    u = np.random.default_rng(3).permutation(np.arange(1000.0))
    found = energy_statistics(u, np.where(u == 7, 0.0, -np.inf))
    assert (found.n, found.finite) == (1000, 1000)
    assert found.mean == pytest.approx(499.5)
    assert found.lower_half_mean == pytest.approx(249.5)
    assert found.lower_half_deviation == pytest.approx(np.arange(500).std())
    assert found.quantiles[0.5] == pytest.approx(500)
    assert found.weighted is not None
    assert found.weighted.value == 7
    record = found.as_record("kT")
    assert record["lower_half"]["mean"] == pytest.approx(249.5)
    assert record["unit"] == "kT"


def test_clashes_are_hidden_by_the_lower_half_only():
    u = np.array([1.0, 2, 3, 4, np.inf, np.nan])
    found = energy_statistics(u)
    assert found.finite == 4
    assert found.mean == np.inf
    assert found.lower_half_mean == 2.0
    assert found.quantiles[0.5] == 4.0
    assert found.quantiles[0.95] == np.inf
    assert found.weighted is None
