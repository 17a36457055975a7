import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from dialanine import info, results, simulated, topology, training_log, weighted

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.reference import Histogram, Reference, ReferenceBasin
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.report.page import render, write_report

VOID = {"meta", "input", "br", "link"}


class Checker(HTMLParser):
    """Collects identifiers, addresses and unbalanced tags."""

    def __init__(self):
        super().__init__()
        self.open, self.identifiers, self.loaded, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.identifiers.append(given["id"])
        loads = [given.get("src"), given.get("xlink:href")]
        if tag == "link":
            loads.append(given.get("href"))
        self.loaded.extend(address for address in loads if address)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def page() -> str:
    return render(results(), weighted(), simulated(), training_log(), info())


def test_page_has_every_part(page):
    text = re.sub(r"[ \n]+", " ", " ".join(read(page).text))
    for part in (
        "These weights can be believed.",
        "11\u202f520 (23 %)",
        "61.234 ± 0.008",
        "3.96 ± 0.07",
        "Ramachandran free energies",
        "replica exchange",
        "proposal, as drawn",
        "0.2673 ± 0.0002",
        "−87.7 ± 0.7",
        "Energies, W1 / kT",
        "5.7 ×",
        "ln (w / mean w)",
        "held-out frames",
        "Accepted exchanges",
        "1\u202f280\u202f000",
        "Amber ff99SB-ILDN",
        "Neural Spline Flows",
        "torch 2.13.0",
    ):
        assert part in text, part


def test_page_works_offline(page):
    checker = read(page)
    assert all(address.startswith("#") for address in checker.loaded)
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\((?!#)", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
    assert len(page) < 5_000_000


def test_identifiers_are_unique(page):
    identifiers = read(page).identifiers
    assert len(identifiers) == len(set(identifiers))


def test_tables_have_captions_and_figures_have_titles(page):
    assert page.count("<table") == page.count("<caption>")
    assert page.count("<svg ") == len(re.findall(r'<svg role="img" aria-label="[^"]{10,}"', page))


def test_page_is_deterministic(page):
    assert page == render(results(), weighted(), simulated(), training_log(), info())


def test_models_are_all_in_the_page(page):
    assert page.count("ENDMDL") == int(re.search(r"(\d+) conformations drawn in proportion", page).group(1))


def test_text_from_outside_is_escaped():
    evil = "<script>alert(1)</script>"
    described = info() | {"command": evil, "system": info()["system"] | {"sequence": evil, "changes": [evil]}}
    bad = results() | {"verdict": {"reliable": False, "reasons": [evil]}}
    bad["basins"] = [{"name": evil, "free_energy": {"value": 1.0, "error": 0.1, "unit": "kT"}}]
    assert evil not in render(bad, weighted(300), None, [], described)


def test_page_of_the_poorest_run():
    poor = Ensemble(weighted(60).positions, np.full(60, -np.inf), topology(), 300.0)
    found = {
        "system": "ACE-ALA-NME",
        "samples": {"proposed": 60, "finite": 0, "clipped": 0},
        "ess": {"count": 0.0, "fraction": 0.0},
        "k_hat": None,
        "log_z": {"value": None, "error": None},
        "verdict": {"reliable": False, "reasons": ["no sample has a finite energy"]},
    }
    text = " ".join(read(render(found, poor, None, [], {})).text)
    assert "not reliable" in text
    assert "no sample has a finite energy" in text
    assert "conformations drawn in proportion" not in text


def test_samples_that_are_not_finite_are_left_out_of_the_figures():
    ensemble = weighted(400)
    positions, u, log_w = ensemble.positions.copy(), ensemble.u.copy(), ensemble.log_w.copy()
    positions[5], u[5], log_w[5] = np.nan, np.nan, -np.inf
    u[9], log_w[9] = np.inf, -np.inf
    broken = Ensemble(positions, log_w, topology(), 300.0, u=u, log_q=ensemble.log_q)
    assert "NaN" not in read(render(results(), broken, simulated(500), [], info())).text


def test_written_file_is_the_page(tmp_path):
    write_report(tmp_path / "report.html", results(), weighted(300), None, [], info())
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "missing" / "report.html", results(), weighted(300), None, [], info())


def test_annealed_run_shows_its_draws_and_ancestors():
    level = {"t": 1.0, "ess": 0.99, "resampled": False, "unique_ancestors": 150, "effective_ancestors": 90.0}
    made = {"method": "smc", "levels": [level], "ancestors": 300, "unique_ancestors": 150, "effective": 90.0}
    lineage = np.arange(300) // 2
    annealed = replace(weighted(300), lineage=lineage, provenance=made | {"proposal_ess": 40.0}, draws=weighted(80))
    found = results() | {"samples": {"proposed": 300, "finite": 300, "method": "smc"}}
    text = re.sub(r"[ \n]+", " ", " ".join(read(render(found, annealed, simulated(500), [], info())).text))
    for part in (
        "Annealing",
        "transported, unweighted (",
        "Effective ancestors",
        "ancestors n",
        "where moves have left",
    ):
        assert part in text, part


def test_certified_reference_is_drawn_beside_the_run(page):
    surface = np.ones((36, 36)) / 36**2
    histogram = Histogram(((-180.0, 180.0, 36), (-180.0, 180.0, 36)), surface, "degree")
    basins = tuple(
        ReferenceBasin(f"ALA2 {name}", Estimate(0.7, 0.1), Estimate(1 / 3, 0.02)) for name in ("left", "alpha", "beta")
    )
    flat = Histogram(((0.0, 1.0, 1),), np.ones(1), "kT")
    key = {"sequence": "ACE-ALA-NME"}
    certified = Reference("ACE-ALA-NME", key, basins, {"ALA2": histogram}, flat, flat, None, (0,), ())
    assert page.count("certified reference<") == 0
    beside = render(results(), weighted(300), simulated(500), [], info(), certified)
    assert beside.count("certified reference<") == 2  # a panel and a curve
