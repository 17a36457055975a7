import re
from dataclasses import replace

import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.protein import backbone
from gibbsian.evaluate.results import plain
from gibbsian.report.headline import key_numbers
from gibbsian.report.page import render
from gibbsian.report.protein import backbone_rows, protein
from gibbsian.report.reconstruction import reconstructed
from gibbsian.report.rounding import percent, with_error
from gibbsian.report.views import views
from gibbsian.testing.backbone import backbone_positions, backbone_topology

TOPOLOGY = backbone_topology(6)
START = backbone_positions(np.full((1, 6), -1.1), np.full((1, 6), -0.8))[0]


def helix(n: int, seed: int = 0) -> Ensemble:
    rng = np.random.default_rng(seed)
    angles = rng.normal([-1.1, -0.8], 0.3, (n, 6, 2))
    x = backbone_positions(angles[..., 0], angles[..., 1])
    log_w = rng.normal(0, 0.3, n)
    return Ensemble(x, log_w, TOPOLOGY, 300.0, u=rng.chisquare(20, n) - 60, log_q=np.zeros(n))


@pytest.fixture(scope="module")
def pair() -> tuple[Ensemble, Ensemble]:
    return helix(200), replace(helix(250, seed=1), log_q=None)


def results_of(ensemble: Ensemble, data: Ensemble | None) -> dict:
    return {"backbone": plain(backbone(ensemble, data)), "samples": {"proposed": len(ensemble)}}


def test_the_page_of_a_protein_has_the_section(pair):
    ensemble, data = pair
    page = render(results_of(*pair), ensemble, data, [], {}, start=START)
    for part in (
        "<h2>Backbone</h2>",
        "Fluctuation of each alpha carbon: given data, proposal, as drawn, reweighted",
        "Embedding of conformations: given data, proposal, as drawn, reweighted",
        "proposal, as drawn (200 points)",
        "10 lowest energies, −",
        "<caption>Samples</caption>",
        "<caption>Data</caption>",
        "Delta-D / Å",
    ):
        assert part in page, part
    assert "χ1" not in page  # no side chains
    assert "Reduced coordinates" not in page
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert page.count("<table") == page.count("<caption>")


def test_peaks_of_the_energies_have_their_population(pair):
    ensemble, data = pair
    u = np.where(np.arange(200) < 60, 10.0, -50.0) + np.random.default_rng(0).normal(0, 2, 200)
    unlikely = replace(ensemble, u=u, log_w=np.where(u > 0, -60.0, 0.0))
    peaks = results_of(unlikely, data)["backbone"]["energy"]["ensemble"]["peaks"]
    assert [peak["share"] for peak in peaks] == pytest.approx([0.7, 0.3], abs=0.01)
    assert [peak["population"]["value"] for peak in peaks] == pytest.approx([1.0, 0.0], abs=1e-9)
    page = render(results_of(unlikely, data), unlikely, data, [], {}, start=START)
    assert page.count("Gaussian of the energies at") == 2


def test_novel_structures_are_drawn_beside_the_nearest_frame(pair):
    ensemble, data = pair
    results = results_of(*pair)
    one = {"distance": 0.4, "nearest": 0.31, "drift": 0.12, "before": None, "after": -321.4}
    found = {"n": 200, "threshold": 0.25, "share": 0.05, "population": {"value": 0.01, "error": 0.004}}
    results["backbone"]["novel"] = found | {"structures": [one] * 2}
    page = render(results, ensemble, data, [], {}, start=START, novel=data.positions[:4])
    said = (f"{percent(0.05)} of 200 samples", "0.250 nm", with_error(0.01, 0.004))
    for part in (*said, "Traces of 2 novel structures", ">∞<", "−321"):
        assert part in page, part
    results["backbone"]["novel"] = found | {"structures": []}
    page = render(results, ensemble, data, [], {}, start=START)
    assert f"{percent(0.05)} of 200 samples" in page
    assert "novel structures over" not in page


def test_columns_are_data_generated_and_reweighted(pair):
    found = results_of(*pair)["backbone"]
    rows = {name: tuple(values) for name, *values in backbone_rows(found)}
    floor, generated, weighted = (float(value) for value in rows["Delta-D / Å"])
    assert 0 < floor < 1.5 * weighted
    assert generated == pytest.approx(found["distances"][0]["value"], abs=0.006)
    shares = [percent(found["clashes"][side]["any"]) for side in ("data", "ensemble")]
    assert rows["Conformations with a clash"] == (*shares, "–")
    assert " ± " in rows["Mean energy / kT"][2]
    assert "Mean of the lower half / kT" in rows


def test_infinite_energies_and_missing_data_are_said(pair):
    ensemble, _ = pair
    u = ensemble.u.copy()
    u[0] = np.inf
    broken = replace(ensemble, u=u, log_w=np.where(np.isfinite(u), 0.0, -np.inf))
    rows = {name: tuple(values) for name, *values in backbone_rows(results_of(broken, None)["backbone"])}
    assert "Delta-D / Å" not in rows
    assert rows["Mean energy / kT"][:2] == ("–", "∞")
    section = protein(results_of(broken, None), views(broken, None, "data"), None)
    assert section is not None
    assert section["lowest"] is section["embedding"] is None
    assert protein({"backbone": None}, views(broken, None, "data"), START) is None


def test_few_effective_samples_have_no_fluctuations(pair):
    ensemble, data = pair
    poor = replace(ensemble, log_w=np.where(np.arange(200) < 5, 0.0, -50.0))
    section = protein(results_of(poor, data), views(poor, data, "data"), START)
    assert section is not None
    assert "data, proposal, as drawn" in section["fluctuations"]
    assert "reweighted" not in section["fluctuations"]


PART = {
    "rmsd": {"backbone": [0.012, 0.02], "heavy": [0.03, 0.05]},
    "shift": -21.94,
    "spread": 4.26,
    "correlation": None,
    "clashes": [0.0, 0.05],
}
REBUILT = {
    "n": 40,
    "rebuilt": PART,
    "minimised": PART | {"correlation": 0.87},
    "alone": {"bonds": PART},
    "energies": {"given": [-50.0, -42.0, -44.0] * 10, "rebuilt": [-60.0, -51.0, None] * 10},
}


def test_reduced_coordinates_have_a_table_and_their_sentence(pair):
    said = "the reduced ensemble says little about the full one."
    found = {"reconstruction": REBUILT | {"source": "bonds", "sentence": said}, "target": "completed"}
    ensemble, data = pair
    shown = views(ensemble, data, "data")
    section = reconstructed(found, shown)
    assert section is not None
    assert (section["n"], section["sentence"]) == ("40", said)
    rows = section["rows"]
    assert [row["name"] for row in rows] == ["all that the flow leaves out", "the same, minimised", "bonds alone"]
    assert (rows[0]["ca"], rows[0]["backbone"], rows[0]["correlation"]) == ("–", "0.12 (0.20)", "–")
    assert (rows[0]["clashes"], rows[1]["correlation"]) == ("0 % → 5 %", "0.87")
    for curve in ("data", "held-out frames", "rebuilt (33", "proposal, as drawn", "reweighted"):
        assert curve in section["energies"], curve
    page = render(found, ensemble, data, [], {})
    assert "<h2>Backbone</h2>" not in page
    assert f"<strong>{said}</strong>" in page
    assert "40 held-out frames" in page
    assert reconstructed({"reconstruction": None}, shown) is None
    found["reconstruction"]["energies"]["rebuilt"] = [None] * 30
    assert (reconstructed(found, shown) or {})["energies"] is None


def test_the_target_of_completed_weights_is_a_key_number():
    assert "Target of the weights" in [name for name, *_ in key_numbers({"target": "completed"})]
    assert "Target of the weights" not in [name for name, *_ in key_numbers({"target": "full"})]
