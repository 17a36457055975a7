from pathlib import Path

import pytest

from gibbsian.errors import InputError
from gibbsian.workflow.settings import merge, read_settings, resolve_settings, write_settings

SYSTEM = {"source": "ACE-ALA-NME"}


def test_seed_reaches_every_part_unless_it_has_its_own() -> None:
    settings = resolve_settings({"system": SYSTEM, "seed": 7, "training": {"seed": 3}})
    assert (settings.seed, settings.data.seed, settings.training.seed) == (7, 7, 3)


def test_written_settings_read_back_equal(tmp_path: Path) -> None:
    settings = resolve_settings({"system": SYSTEM, "sampling": {"n": 123}, "data": {"temperatures": [300.0, 400.0]}})
    write_settings(tmp_path / "run.yaml", settings)
    assert resolve_settings(read_settings(tmp_path / "run.yaml")) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"system": {"source": "AAA", "temperatur": 300}}, "system.temperatur: unknown key; did you mean temperature?"),
        ({"system": SYSTEM, "data": {"laders": 3}}, "data.laders: unknown key; did you mean ladders?"),
        ({"system": SYSTEM, "stages": [{"name": "nll", "step": 3}]}, "stages.0.step: unknown key; did you mean steps?"),
        ({"system": SYSTEM, "trainin": {}}, "trainin: unknown key; did you mean training?"),
        ({"system": SYSTEM, "seed": "many"}, "seed: Input should be a valid integer"),
        ({"system": SYSTEM, "recipe": "magic"}, "recipe: got 'magic'; the recipes are "),
        ({"seed": 1}, "system: missing"),
        ({"system": SYSTEM, "sampling": {"n": 0}}, "sampling.n: Input should be greater than 0 (got 0)"),
        ({"system": SYSTEM, "sampling": {"chunk": 0}}, "sampling.chunk: Input should be greater than 0 (got 0)"),
        ({"system": SYSTEM, "sampling": {"until_ess": -1}}, "sampling.until_ess: Input should be greater than 0"),
        ({"system": SYSTEM, "stages": []}, "stages: none are given"),
        ({"system": SYSTEM, "proposal": ["spline"]}, "proposal: got ['spline']; the models are "),
        ({"system": SYSTEM, "data": {"ladders": -1}}, "data: ladders: got -1; give a positive number"),
    ],
)
def test_wrong_settings_give_one_line(given: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_settings(given, "run.yaml")
    assert str(error.value).startswith("run.yaml: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "system: [", "just text"])
def test_files_that_are_no_settings(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"run\.yaml"):
        read_settings(path)


def test_merge_keeps_what_is_not_replaced() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
