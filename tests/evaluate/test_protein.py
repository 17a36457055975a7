import json
from dataclasses import replace

import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.backbone import backbone_distances
from gibbsian.evaluate.protein import backbone
from gibbsian.evaluate.results import evaluate, plain
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def helix(n: int, seed: int = 0, phi: float = -1.1, residues: int = 6) -> Ensemble:
    """Importance samples of a helix with energies of a chi-squared law."""
    rng = np.random.default_rng(seed)
    angles = rng.normal([phi, -0.8], 0.1, (n, residues, 2))
    x = backbone_positions(angles[..., 0], angles[..., 1])
    u = rng.chisquare(20, size=n)
    return Ensemble(x, np.zeros(n), backbone_topology(residues), 300.0, u=u, log_q=np.zeros(n))


def mixture() -> Ensemble:
    """Draws of the helix of the data, and as many of another that the weights put out."""
    right, wrong = helix(300, seed=1), helix(300, seed=2, phi=-1.8)
    parts = {name: np.concatenate([getattr(right, name), getattr(wrong, name)]) for name in ("positions", "u", "log_q")}
    return replace(right, log_w=np.repeat([0.0, -np.inf], 300), **parts)


def test_weights_bring_the_backbone_back_to_the_data():
    data = helix(500)
    found = backbone(mixture(), data, n=400)
    assert found is not None
    rows = {row["name"]: row for row in found["distances"]}
    assert list(rows) == [f"{kind}_backbone{end}" for end in ("_unweighted", "") for kind in ("delta_d", "delta_mean")]
    assert rows["delta_d_backbone"]["value"] == pytest.approx(rows["delta_d_backbone"]["floor"], rel=0.1)
    assert rows["delta_d_backbone_unweighted"]["value"] > 1.3 * rows["delta_d_backbone"]["value"]
    assert rows["delta_d_backbone"]["value"] == backbone_distances(mixture(), data, n=400)[0].value


def test_energies_are_those_of_all_draws_and_of_the_weighted_ensemble():
    ensemble = mixture()
    assert ensemble.u is not None
    u = np.concatenate([ensemble.u[:-1], [np.inf]])
    found = backbone(replace(ensemble, u=u), helix(500))
    assert found is not None
    generated, data = found["energy"]["ensemble"], found["energy"]["data"]
    assert (generated["n"], generated["finite"], generated["unit"]) == (600, 599, "kT")
    assert generated["all"]["mean"] == np.inf
    assert generated["lower_half"]["mean"] == pytest.approx(np.sort(u)[:300].mean())
    assert generated["weighted"]["value"] == pytest.approx(u[:300].mean())
    assert plain(generated)["all"]["mean"] is None
    assert data["all"]["mean"] == pytest.approx(data["weighted"]["value"])


def test_data_count_by_weight():
    data = mixture()
    assert data.u is not None
    found = backbone(helix(100, seed=3), replace(data, log_q=None))
    assert found is not None
    assert found["energy"]["data"]["n"] == found["clashes"]["data"]["n"] == 300
    assert found["energy"]["data"]["all"]["mean"] == pytest.approx(data.u[:300].mean())


def test_what_is_not_finite_clashes():
    ensemble = helix(100, seed=1)
    x = ensemble.positions.copy()
    x[:20, 3] = np.nan
    x[20:30, 2] = x[20:30, 20]  # N of the first residue on an atom of the last
    broken = replace(ensemble, positions=x, log_w=np.where(np.arange(100) < 30, -np.inf, 0.0))
    found = backbone(broken, helix(200))
    assert found is not None
    assert found["clashes"]["data"] == {"n": 200, "any": 0.0, "backbone": 0.0}
    assert found["clashes"]["ensemble"] == {"n": 100, "any": 0.3, "backbone": 0.3}
    assert all(np.isfinite(row["value"]) for row in found["distances"])


def test_an_ensemble_without_draws_or_data_stands_alone():
    alone = backbone(replace(helix(100), log_q=None, u=None), None)
    assert alone is not None
    assert alone["distances"] == []
    assert alone["energy"] == {"data": None, "ensemble": None}
    assert alone["clashes"]["data"] is None
    exchanged = backbone(replace(helix(100), provenance={"method": "exchange"}), helix(100, seed=1))
    assert exchanged is not None
    assert [row["name"] for row in exchanged["distances"]] == ["delta_d_backbone", "delta_mean_backbone"]


def test_results_have_it_for_chains_of_four_residues():
    assert backbone(helix(50, residues=3), None) is None
    found = evaluate(helix(300), data=helix(300, seed=1), target="completed", n_compare=100, n_transport=50)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["target"] == "completed"
    assert {row["n"] for row in found["backbone"]["distances"]} == {50}
