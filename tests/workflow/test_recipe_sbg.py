import json
from pathlib import Path

import pytest

from conftest import TINY
from gibbsian.errors import InputError
from gibbsian.models.registry import load_flow
from gibbsian.models.spline import SplineConfig
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import TarFlowConfig
from gibbsian.workflow.estimate import estimate
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import read_settings, resolve_settings, write_settings
from gibbsian.workflow.stages import STAGES

SYSTEM = {"source": "ACE-ALA-NME"}
TINY_SBG = TINY | {"recipe": "sbg", "model": {"blocks": 2, "depth": 1, "width": 16, "head": 8}, "sampling": {"n": 500}}


def test_a_recipe_chooses_its_model(tmp_path: Path) -> None:
    sbg = resolve_settings({"system": SYSTEM, "recipe": "sbg", "model": {"gauge": "frame", "frame": [8, 6, 14]}})
    assert sbg.proposal == "tarflow"
    assert isinstance(sbg.model, TarFlowConfig)
    assert (sbg.model.gauge, sbg.model.frame) == ("frame", (8, 6, 14))
    assert isinstance(resolve_settings({"system": SYSTEM}).model, SplineConfig)
    write_settings(tmp_path / "run.yaml", sbg)
    assert resolve_settings(read_settings(tmp_path / "run.yaml")) == sbg


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "sbg", "model": {"widht": 3}}, "model.widht: unknown key; did you mean width?"),
        ({"recipe": "sbg", "model": {"couplings": 8}}, "model.couplings: unknown key"),
        ({"recipe": "sbg", "model": {"gauge": "hard"}}, "model.gauge: Input should be 'soft', 'meanfree'"),
        ({"recipe": "sbg", "model": {"width": 60}}, "a width that is a multiple of head"),
        ({"model": {"gauge": "soft"}}, "model.gauge: unknown key"),
        ({"proposal": "magic"}, "proposal: got 'magic'; the models are spline, split, tarflow"),
    ],
)
def test_wrong_models_give_one_line(given: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_settings({"system": SYSTEM, **given}, "run.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gauge", ["soft", "frame"])
def test_a_run_of_sbg_from_the_sequence_to_the_report(gauge: str, tmp_path: Path) -> None:
    given = TINY_SBG | {"model": TINY_SBG["model"] | {"gauge": gauge}}
    with open_run(given, tmp_path / "run", "here") as run:
        perform(run, STAGES)
    content = json.loads((tmp_path / "run/results.json").read_text())
    assert content["recipe"] == "sbg"
    assert content["samples"]["proposed"] == 500
    assert not content["verdict"]["reliable"], "forty steps cannot be enough"
    flow = load_flow(tmp_path / "run/model/flow.safetensors")
    assert isinstance(flow, TarFlow)
    assert flow.config.gauge == gauge
    assert "autoregressive transformer" in (tmp_path / "run/report.html").read_text()
    assert "2412.06329" in (tmp_path / "run/cite.bib").read_text()


def test_the_cost_of_sbg_is_estimated() -> None:
    found = estimate(resolve_settings(TINY_SBG))
    assert "at most" in dict(found.rows)["train"]
    assert "ten times the training of the recipe spline" in found.advice
