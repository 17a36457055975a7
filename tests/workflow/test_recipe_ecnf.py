import json
from pathlib import Path

import pytest

from conftest import TINY
from gibbsian.models.ecnf import ECNF
from gibbsian.models.registry import load_flow
from gibbsian.workflow.estimate import estimate
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.stages import STAGES

TINY_ECNF = {name: part for name, part in TINY.items() if name != "model"} | {
    "recipe": "ecnf",
    "model": {"depth": 2, "width": 8, "tolerance": 1e-2},
    "stages": [{"name": "match", "steps": 10, "batch": 16, "warmup": 2}],
    "training": {"evaluate_every": 10, "checkpoint_every": 10},
    "sampling": {"n": 20, "chunk": 10},
}


def test_the_two_recipes_differ_as_published() -> None:
    system = {"source": "ACE-ALA-NME"}
    first, second = (resolve_settings({"system": system, "recipe": name}) for name in ("ecnf", "ecnf_plus"))
    assert (first.proposal, second.proposal) == ("ecnf", "ecnf")
    assert first.model.path_noise == 0.01
    assert second.model.path_noise == 0.0
    assert first.training.weight_decay == 0.0
    assert second.training.weight_decay == 1e-4
    assert second.training.ema == 0.999


@pytest.mark.slow
def test_a_run_of_ecnf_from_the_sequence_to_the_report(tmp_path: Path) -> None:
    with open_run(TINY_ECNF, tmp_path / "run", "here") as run:
        perform(run, STAGES)
    content = json.loads((tmp_path / "run/results.json").read_text())
    assert content["recipe"] == "ecnf"
    assert content["samples"]["proposed"] == 20
    assert content["forward_ess"]["n"] <= 20, "densities cost as much as samples"
    flow = load_flow(tmp_path / "run/model/flow.safetensors")
    assert isinstance(flow, ECNF)
    assert len(flow.handedness.stereo) == 1
    assert len(flow.handedness.twins) == 3
    assert "equivariant continuous" in (tmp_path / "run/report.html").read_text()
    assert "2406.14426" in (tmp_path / "run/cite.bib").read_text()
    assert "takes about a second" in estimate(resolve_settings(TINY_ECNF)).advice
