import json

import numpy as np
import pytest

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, UnreliableError
from gibbsian.evaluate.metrics import compare
from gibbsian.evaluate.results import evaluate
from gibbsian.evaluate.slow_modes import features, fit_tica
from gibbsian.sampling.forward import ForwardEss
from gibbsian.testing.backbone import backbone_positions, backbone_topology

TOPOLOGY = backbone_topology(1)


def peptide(n: int, left: float = 0.1, seed: int = 0, lineages: int = 8, **options) -> Ensemble:
    """Angles of three islands, `left` of them at positive phi; energies of a chi-squared law."""
    rng = np.random.default_rng(seed)
    island = rng.choice(3, size=n, p=[left, 0.5, 0.5 - left])
    centres = np.array([[1.0, 0.5], [-1.4, -0.5], [-1.4, 2.5]])
    angles = centres[island] + 0.2 * rng.normal(size=(n, 2))
    parts = {
        "positions": backbone_positions(angles[:, :1], angles[:, 1:]),
        "log_w": np.zeros(n),
        "topology": TOPOLOGY,
        "temperature": 300.0,
        "u": rng.chisquare(20, size=n),
        "lineage": np.arange(n) * lineages // n,
    }
    return Ensemble(**(parts | options))


def as_samples(ensemble: Ensemble, log_w: np.ndarray) -> Ensemble:
    return Ensemble(ensemble.positions, log_w, TOPOLOGY, 300.0, u=ensemble.u, log_q=np.zeros(len(log_w)), provenance={})


def test_same_distribution_is_at_the_floor_and_another_above():
    reference = peptide(3000, seed=1)
    options = {"n": 1000, "n_transport": 400, "splits": 3}
    same = {d.name: d for d in compare(peptide(3000, seed=2), reference, **options)}
    assert list(same) == ["e_w1", "e_w2", "t_w2", "ram_jsd_36x36_bits", "ram_tv_100x100"]
    assert {name: d.n for name, d in same.items()}["t_w2"] == 400
    assert same["e_w1"].n == 1000
    assert all(0.4 * d.floor < d.value < 2 * d.floor for d in same.values())
    shifted = peptide(3000, left=0.4, seed=3)
    shifted = Ensemble(shifted.positions, shifted.log_w, TOPOLOGY, 300.0, u=shifted.u + 3.0)
    other = {d.name: d for d in compare(shifted, reference, **options)}
    assert other["e_w1"].value == pytest.approx(3.0, abs=0.6)
    assert other["e_w2"].value >= other["e_w1"].value
    for name in ("e_w1", "t_w2", "ram_jsd_36x36_bits"):
        assert other[name].value > 2 * other[name].floor
        assert other[name].floor == same[name].floor


def test_weights_bring_a_wrong_ensemble_back():
    reference = peptide(4000, left=0.1, seed=1)
    wrong = peptide(4000, left=0.4, seed=2)
    masks = basin_masks(TOPOLOGY, wrong.positions)
    ratio = masks["ALA2 left"] * np.log(0.1 / 0.4) + masks["ALA2 beta"] * np.log(0.4 / 0.1)
    right = as_samples(wrong, ratio)
    options = {"n": 1000, "n_transport": 400, "splits": 2}
    before = {d.name: d.value for d in compare(wrong, reference, **options)}
    after = {d.name: d.value for d in compare(right, reference, **options)}
    assert after["t_w2"] < 0.6 * before["t_w2"]


def test_slow_modes_are_compared():
    reference = peptide(600, seed=1)
    runs = np.split(features(TOPOLOGY, reference.positions), 8)
    tica = fit_tica(runs, lag=1, n_components=2)
    rows = {d.name: d for d in compare(peptide(600, seed=2), reference, n=200, n_transport=200, splits=2, tica=tica)}
    assert 0.4 < rows["tica_w2"].value / rows["tica_w2"].floor < 2.5


def test_schema():
    ensemble = as_samples(peptide(2000, seed=4), 0.3 * np.random.default_rng(5).normal(size=2000))
    results = evaluate(
        ensemble,
        reference=peptide(2000, seed=6),
        forward=ForwardEss(0.8, 400),
        system="ACE-ALA-NME",
        recipe="spline",
        seed=3,
        n_compare=500,
        n_transport=200,
        performance={"wall_s": 1.5},
    )
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert list(results) == [
        *(
            "system",
            "recipe",
            "seed",
            "samples",
            "target",
            "ess",
            "forward_ess",
            "k_hat",
            "log_z",
            "reference",
            "basins",
            "observables",
        ),
        *("distances", "backbone", "verdict", "performance"),
    ]
    assert results["target"] == "full"
    assert results["backbone"] is None  # one alpha carbon
    assert results["samples"] == {"proposed": 2000, "finite": 2000, "clipped": 0}
    assert results["ess"]["count"] == pytest.approx(results["ess"]["fraction"] * 2000)
    assert set(results["log_z"]) == {"value", "error"}
    assert results["basins"][0]["name"] == "ALA2 left"
    left = results["basins"][0]
    for column in (left["free_energy"], left["reference"]):
        assert abs(column["value"] + np.log(0.1 / 0.9)) < 4 * column["error"]
    assert left["free_energy"]["unit"] == "kT"
    assert set(results["observables"][0]) == {"name", "value", "error", "unit"}
    assert set(results["distances"][0]) == {"name", "n", "value", "floor"}
    assert results["verdict"]["reliable"] is True
    assert results["performance"] == {"wall_s": 1.5}
    assert results["reference"] == {"source": "ensemble", "file": None}
    assert left["gated"] is None


def test_data_stand_in_for_a_reference_and_show_a_lost_basin():
    ensemble = as_samples(peptide(1500, left=0.0), np.zeros(1500))
    results = evaluate(ensemble, data=peptide(1500, left=0.1), n_compare=300, n_transport=100)
    assert results["basins"][0]["free_energy"]["value"] is None
    assert results["basins"][0]["reference"]["value"] == pytest.approx(np.log(9), abs=0.5)
    assert not results["verdict"]["reliable"]
    assert "ALA2 left is lost" in results["verdict"]["reasons"][0]
    assert results["reference"]["source"] == "data"
    # A reference that lost it too does not hide what the data show.
    poor = peptide(1500, left=0.0, seed=7)
    both = evaluate(ensemble, data=peptide(1500, left=0.1), reference=poor, n_compare=300, n_transport=100)
    assert both["verdict"]["reasons"] == results["verdict"]["reasons"]
    assert both["basins"][0]["reference"]["value"] is None


def test_alone_and_simulated():
    results = evaluate(peptide(500))
    assert results["log_z"] is results["forward_ess"] is results["basins"][0]["reference"] is None
    assert results["distances"] == []
    assert results["reference"] is None


def test_bad_input():
    ensemble, reference = peptide(200), peptide(200)
    with pytest.raises(UnreliableError, match="all 200 weights are zero"):
        evaluate(as_samples(ensemble, np.full(200, -np.inf)))
    with pytest.raises(InputError, match="310 K"):
        evaluate(ensemble, reference=peptide(200, temperature=310.0))
    angles = np.zeros((200, 2))
    other = Ensemble(backbone_positions(angles, angles), np.zeros(200), backbone_topology(2), 300.0)
    with pytest.raises(InputError, match="same molecule"):
        evaluate(ensemble, reference=other)
    with pytest.raises(InputError, match="at least four"):
        compare(ensemble, reference.take(np.arange(3)))
