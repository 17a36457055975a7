import json
from pathlib import Path

from conftest import TINY
from gibbsian.models.registry import load_flow
from gibbsian.models.split_flow import SplitFlow
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.stages import STAGES

SPLIT = TINY | {
    "system": {"source": "GGGG"},
    "recipe": "split-flow",
    "model": {"backbone": 2, "full": 2, "width": 16, "completion": "linear-gaussian"},
    "stages": [{"name": "nll", "steps": 10, "batch": 32, "warmup": 2}],
    "sampling": {"n": 200},
}


def test_a_run_from_the_sequence_to_the_report(tmp_path: Path) -> None:
    with open_run(SPLIT, tmp_path / "run", "here") as run:
        perform(run, STAGES)
    content = json.loads((tmp_path / "run/results.json").read_text())
    assert isinstance(load_flow(tmp_path / "run/model/flow.safetensors"), SplitFlow)
    assert content["target"] == "completed"
    rebuilt = content["reconstruction"]
    assert 2 <= rebuilt["n"] <= 200
    assert rebuilt["rebuilt"]["shift"] < 0, "frozen coordinates have no thermal energy"
    assert rebuilt["rebuilt"]["rmsd"]["ca"][0] > 0
    assert (rebuilt["sentence"] is None) == (rebuilt["rebuilt"]["spread"] <= 3)
    assert {row["name"] for row in content["backbone"]["distances"]} >= {"delta_d_backbone"}
    text = (tmp_path / "run/report.html").read_text()
    for part in ("<h2>Backbone</h2>", "<h2>Reduced coordinates</h2>", "Lowest energies", "Target of the weights"):
        assert part in text, part
