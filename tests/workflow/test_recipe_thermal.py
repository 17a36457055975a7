import json
from pathlib import Path

import pytest

from conftest import TINY
from gibbsian.errors import InputError
from gibbsian.workflow.estimate import estimate
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import read_settings, resolve_settings, write_settings
from gibbsian.workflow.stages import STAGES

SYSTEM = {"source": "ACE-ALA-NME"}
THERMAL = TINY | {
    "recipe": "thermal",
    "model": TINY["model"] | {"temperatures": [300, 600]},
    "sampling": {"n": 500, "temperatures": [300, 600]},
}


def test_the_recipe_holds_the_temperatures_that_it_samples(tmp_path: Path) -> None:
    settings = resolve_settings({"system": SYSTEM, "recipe": "thermal"})
    assert settings.sampling.temperatures == (300.0, 350.0, 400.0, 450.0, 500.0, 550.0, 600.0)
    write_settings(tmp_path / "run.yaml", settings)
    assert resolve_settings(read_settings(tmp_path / "run.yaml")) == settings
    assert resolve_settings({"system": SYSTEM}).sampling.temperatures == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampling": {"temperatures": [250, 300]}}, "give each once, between 300 and 600 K"),
        ({"sampling": {"temperatures": [300, 300]}}, "give each once"),
        ({"model": {"temperatures": None}}, "the model holds one only"),
        ({"model": {"temperatures": [600, 300]}}, "positive and rising"),
        ({"annealing": {}}, "leads to one temperature only"),
        ({"recipe": "sbg", "sampling": {"temperatures": [300]}}, "the model holds one only"),
    ],
)
def test_wrong_temperatures_give_one_line(given: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_settings({"system": SYSTEM, "recipe": "thermal", **given}, "run.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_a_reference_at_another_temperature_is_refused_before_anything_runs(tmp_path: Path) -> None:
    hot = THERMAL | {"system": SYSTEM | {"temperature": 310.0}}
    with pytest.raises(InputError, match="begins at 300 K, the system is at 310 K"), open_run(hot, tmp_path, "here"):
        pass
    assert not (tmp_path / "run.yaml").exists()


def test_the_cost_counts_the_samples_of_every_temperature() -> None:
    assert "for 1500 samples" in dict(estimate(resolve_settings(THERMAL)).rows)["sample"]


def test_a_run_from_the_sequence_to_the_report(tmp_path: Path) -> None:
    with open_run(THERMAL, tmp_path / "run", "here") as run:
        perform(run, STAGES)
    content = json.loads((tmp_path / "run/results.json").read_text())
    found = content["temperatures"]
    assert [row["temperature"] for row in found["model"]] == [300, 600]
    assert [row["temperature"] for row in found["data"]] == [300, 400, 530]
    assert found["model"][1]["energy"]["value"] > found["model"][0]["energy"]["value"]
    assert {basin["name"] for basin in found["model"][0]["basins"]} == {row["name"] for row in content["basins"]}
    assert (tmp_path / "run/samples/600K/manifest.json").exists()
    text = (tmp_path / "run/report.html").read_text()
    assert "Other temperatures" in text
    assert "conditioned on temperature" in text
