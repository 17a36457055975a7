from dataclasses import replace

import numpy as np
import pytest
from dialanine import weighted

from gibbsian.report import correction
from gibbsian.report.drawings import weight_plots

LEVELS = [
    {
        "t": t,
        "ess": ess,
        "resampled": resampled,
        "unique_ancestors": unique,
        "effective_ancestors": effective,
        "acceptance": 0.6,
        "step": 0.001,
        "displacement_nm": 0.0012,
    }
    for t, ess, resampled, unique, effective in ((0.3, 0.4, True, 1000, 400.0), (1.0, 0.98, False, 300, 120.0))
]
MADE = {
    "method": "smc",
    "levels": LEVELS,
    "ancestors": 1000,
    "unique_ancestors": 300,
    "effective": 120.0,
    "proposal_ess": 31.0,
    "exact": True,
}


def test_equal_weights_after_resampling_are_not_called_effective_samples():
    rows = {name: (value, meaning) for name, value, meaning in correction.correction_rows(MADE)}
    assert rows["Effective ancestors"][0] == "120 (12 %)"
    assert rows["Draws with descendants"][0] == "300 (30 %)"
    value, meaning = rows["Effective since the last resampling"]
    assert value == "98 %"
    assert "no measure" in meaning
    assert "resampled after 1" in rows["Levels"][1]
    assert rows["Displacement of an atom"][0] == "1.2 pm"


def test_a_biased_kernel_is_named():
    assert ("Kernel", "biased") in [row[:2] for row in correction.correction_rows(MADE | {"exact": False})]


def test_importance_samples_have_no_record():
    assert correction.correction_rows({"method": "snis"}) == []


def test_exchange_tells_how_often_draws_were_accepted():
    made = {"method": "exchange", "draws_acceptance": 0.02, "statistical_inefficiency": 5.0, "effective": 200.0}
    rows = {name: value for name, value, _ in correction.correction_rows(made | {"swap_acceptance": [0.3, 0.4]})}
    assert rows["Draws accepted"] == "2 %"
    assert rows["Swaps accepted"] == "30 % to 40 %"


def test_paths_tell_what_was_left_out():
    made = {"method": "langevin", "settings": {"steps": 50}, "step": 0.001, "max_energy": 40.0, "above": 0.1}
    rows = {name: value for name, value, _ in correction.correction_rows(made | {"weighted": False})}
    assert rows["Ended too high"] == "10 %"
    assert rows["Weights"] == "none"


@pytest.mark.parametrize("missing", [(), ("acceptance", "step", "displacement_nm")])
def test_annealing_is_drawn_with_what_is_known(missing):
    levels = [{key: value for key, value in level.items() if key not in missing} for level in LEVELS]
    svg = correction.annealing(levels, 1000)
    assert ">effective<" in svg
    assert (">moves<" in svg) == (not missing)


def test_weights_of_resampled_particles_are_those_of_their_ancestors():
    n, rng = 400, np.random.default_rng(0)
    lineage = np.sort(rng.integers(0, 60, n))
    annealed = replace(weighted(n), lineage=lineage, provenance={"method": "smc", "ancestors": n})
    plots = weight_plots(annealed)
    assert len(plots) == 3
    assert all("ancestors" in svg for svg in plots)
    assert "samples n" not in plots[2]
