import re

import numpy as np
from dialanine import info, results, simulated, training_log, weighted

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.comparison import StageCosts, against_exchange
from gibbsian.evaluate.results import plain
from gibbsian.report.comparison import comparison, error_against_cost
from gibbsian.report.headline import headline
from gibbsian.report.page import render
from gibbsian.report.tables import performance_rows, reference_note
from gibbsian.testing.reference import toy_reference

COSTS = StageCosts(80.0, 100.0, 4.0, 0.1)
CERTIFIED = {"source": "certified", "file": "toy.json", "seeds": [0, 1, 2], "aggregate_ns": 1199.5}


def frames() -> Ensemble:
    """Ten ladders of one walker each."""
    data = simulated(3000)
    lineage = np.repeat(np.arange(10), 300)
    provenance = {"statistics": {"frames_per_walker": 300}}
    return Ensemble(data.positions, data.log_w, data.topology, 300.0, u=data.u, lineage=lineage, provenance=provenance)


def compared(certified: bool = True, reliable: bool = True) -> dict:
    data = frames()
    known = toy_reference(data, {"ALA2 left": 0.02, "ALA2 alpha": 0.3}) if certified else None
    found = plain(against_exchange(weighted(), data, known, COSTS, reliable=reliable))
    content = results()
    content["performance"]["tt01"] = found
    return content


def test_page_has_the_section_with_both_methods():
    page = render(compared() | {"reference": CERTIFIED}, weighted(300), frames(), training_log(), info())
    section = page[page.index("Against replica exchange") : page.index("Ramachandran free energies")]
    assert section.count("<svg ") == 1
    assert "Replica exchange alone" in section
    assert "Learned ensemble" in section
    assert "Off certified / kT" in section
    assert '<th scope="col" class="number">Certified / kT</th>' in page
    assert "3 independent seeds, 1200 ns in all" in page
    assert page.count("<svg ") == len(re.findall(r'<svg role="img" aria-label="[^"]{10,}"', page))


def test_section_follows_what_is_known():
    assert comparison(results()) is None
    assert "Against replica exchange" not in render(results(), weighted(300), None, [], info())
    found = comparison(compared(certified=False, reliable=False))
    assert found is not None
    assert not found["certified"]
    exchange, flow = found["rows"]
    assert flow["time"] == "not reached"
    assert flow["error"] == "–"
    assert exchange["difference"] == "–"
    assert "not reliable" in found["text"]


def test_nothing_measured_is_no_figure():
    nothing = {"measured": [], "expected": []}
    assert error_against_cost({"flow": nothing, "replica_exchange": nothing}) is None
    one = {"measured": [{"core_seconds": 10.0, "error": 0.2}], "expected": []}
    svg = error_against_cost({"flow": nothing, "replica_exchange": one})
    assert svg is not None
    assert "core-seconds" in svg


def test_costs_are_listed_without_the_comparison():
    names = [name for name, _ in performance_rows(compared()["performance"])]
    assert "Time: train" in names
    assert not any("tt01" in name.lower() for name in names)


def test_the_reference_is_described():
    assert reference_note({}) == ""
    assert "training data" in reference_note({"reference": {"source": "data", "file": None}})
    assert "given" in reference_note({"reference": {"source": "ensemble", "file": None}})
    rows = [{"name": "ALA2 left", "gated": False}, {"name": "ALA2 beta", "gated": True}]
    assert "judged by ALA2 left, rare" in reference_note({"reference": CERTIFIED, "basins": rows})


def test_a_rare_basin_gives_no_warning():
    content = results()
    content["basins"][0]["reference"] = {"value": 5.0, "error": 0.01}
    assert headline(content).level == "fair"
    content["basins"][0]["gated"] = False
    assert headline(content).level == "good"
