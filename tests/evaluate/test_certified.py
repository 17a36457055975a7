import numpy as np
import pytest

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.certified import aggregate_ns, for_molecule, ramachandran_distance
from gibbsian.evaluate.results import evaluate
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.testing.reference import toy_reference

TOPOLOGY = backbone_topology(1)
CENTRES = np.array([[1.0, 0.5], [-1.4, -0.5], [-1.4, 2.5]])


def peptide(n: int, left: float = 0.1, seed: int = 0, weight_left: float = 1.0) -> Ensemble:
    """Three islands, `left` of them at positive phi, where weights are `weight_left`."""
    rng = np.random.default_rng(seed)
    island = rng.choice(3, size=n, p=[left, 0.5, 0.5 - left])
    angles = CENTRES[island] + 0.2 * rng.normal(size=(n, 2))
    log_w = np.where(island == 0, np.log(weight_left), 0.0)
    return Ensemble(backbone_positions(angles[:, :1], angles[:, 1:]), log_w, TOPOLOGY, 300.0, log_q=np.zeros(n))


def populations(ensemble: Ensemble) -> dict[str, float]:
    masks = basin_masks(ensemble.topology, ensemble.positions)
    return {name: float(ensemble.weights @ mask) for name, mask in masks.items()}


TRUE = peptide(200_000, seed=9)
CERTIFIED = toy_reference(TRUE, populations(TRUE))


def test_a_perfect_sample_is_at_the_floor():
    found = ramachandran_distance(peptide(2000, seed=1), CERTIFIED)
    assert found is not None
    assert (found.name, found.n) == ("certified_ram_tv_36x36", 2000)
    assert found.value == pytest.approx(found.floor, rel=0.15)
    more = ramachandran_distance(peptide(8000, seed=1), CERTIFIED)
    assert more is not None
    assert more.floor == pytest.approx(found.floor / 2, rel=0.15), "the floor is that of the sample size"


def test_weights_count_in_distance_and_sample_size():
    wrong = ramachandran_distance(peptide(4000, left=0.3, seed=2), CERTIFIED)
    right = ramachandran_distance(peptide(4000, left=0.3, seed=2, weight_left=0.1 / 0.3), CERTIFIED)
    assert wrong is not None
    assert right is not None
    assert wrong.value > 2.5 * wrong.floor
    assert right.n < 4000
    # The last island has 0.2 in place of 0.4 and cannot be mended by the first one's weights.
    assert right.value < wrong.value


def test_the_reference_column_is_certified_and_says_so():
    results = evaluate(peptide(2000), data=peptide(2000, seed=3), certified=CERTIFIED, n_compare=300, n_transport=100)
    assert results["reference"] == {
        "source": "certified",
        "file": "toy_capped_none_none_nocutoff_300K.json",
        "seeds": [0, 1, 2],
        "aggregate_ns": pytest.approx(3 * 4 * 2 * 1000 * 0.002 / 1000),
    }
    for row in results["basins"]:
        known = CERTIFIED.basin(row["name"])
        assert known is not None
        assert row["reference"] == known.free_energy._asdict()
        assert row["gated"] is True
    names = [row["name"] for row in results["distances"]]
    assert names[-1] == "certified_ram_tv_36x36"
    assert "t_w2" in names, "other distances stay with the data"
    assert results["verdict"]["reliable"]


def test_a_basin_that_only_the_reference_knows_must_not_be_lost():
    lost = peptide(1500, left=0.0)
    results = evaluate(lost, certified=CERTIFIED)
    assert not results["verdict"]["reliable"]
    assert "ALA2 left is lost: 0.00% of the ensemble, 10." in results["verdict"]["reasons"][0]
    rare = toy_reference(TRUE, {**populations(TRUE), "ALA2 left": 5e-4})
    relaxed = evaluate(lost, certified=rare)
    assert relaxed["verdict"]["reliable"]
    assert [row["gated"] for row in relaxed["basins"]] == [False, True, True]


def test_residues_of_other_names_are_not_looked_up():
    assert for_molecule(CERTIFIED, TOPOLOGY) is CERTIFIED
    assert for_molecule(None, TOPOLOGY) is None
    assert for_molecule(toy_reference(TRUE, {"ALA57 left": 0.1}), TOPOLOGY) is None
    other = toy_reference(peptide(100), {"ALA2 left": 0.1})
    other.ramachandran.clear()  # type: ignore[attr-defined]
    assert ramachandran_distance(peptide(100), other) is None


def test_length_is_told_only_where_it_is_known():
    unknown = toy_reference(TRUE, populations(TRUE))
    unknown.provenance.clear()  # type: ignore[attr-defined]
    assert aggregate_ns(unknown) is None
