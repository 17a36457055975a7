"""Runs that train on energies: from free torsions, from hot data, and stopped in the middle."""

import json
from pathlib import Path

import pytest

from conftest import TINY
from gibbsian.errors import InputError
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.stages import STAGES

ANNEALING = {"calls": 1500, "samples": 500, "fit_steps": 3, "batch": 64, "ess_floor": 1e-6}
GIVEN = TINY | {
    "recipe": "annealed",
    "model": {"couplings": [2, 2, 2], "hidden": 16, "depth": 1, "bins": 4},
    "annealing": ANNEALING,
    "sampling": {"n": 500},
}


@pytest.mark.parametrize(
    "changes",
    [{"stages": []}, {"annealing": ANNEALING | {"method": "effective-size", "start_temperature": 400.0}}],
    ids=["from the prior", "from hot data"],
)
def test_a_run_trains_on_energies_and_shows_the_trace(changes: dict, tmp_path: Path) -> None:
    with open_run(GIVEN | changes, tmp_path / "run", "here") as run:
        perform(run, STAGES)
    lines = [json.loads(line) for line in (tmp_path / "run/model/annealing/annealing.jsonl").read_text().splitlines()]
    assert [line["calls"] for line in lines] == [500, 1000, 1500]
    assert (tmp_path / "run/model/log.jsonl").exists() == bool(changes.get("stages", True))
    page = (tmp_path / "run/report.html").read_text()
    assert "Training on energies" in page
    assert "loss of entropy" in page
    assert json.loads((tmp_path / "run/results.json").read_text())["samples"]["proposed"] == 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [], "annealing": None}, "stages: none are given"),
        ({"annealing": {"method": "magic"}}, "method"),
        ({"annealing": {"smaples": 3}}, "did you mean samples?"),
        ({"annealing": {"lr": -1.0}}, "lr, passes, trust, entropy"),
    ],
)
def test_wrong_annealings_give_one_line(changes: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_settings(GIVEN | changes, "run.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
