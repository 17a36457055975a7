from pathlib import Path
from typing import Any

import pytest

import gibbsian
from conftest import TINY
from gibbsian.chem.library import built_in
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, StoppedError
from gibbsian.models.registry import load_flow
from gibbsian.progress import Report
from gibbsian.workflow import run as runs
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.stages import STAGES, load_data

STREAMED: dict[str, Any] = TINY | {"stream": {"every": 8, "frames": 3}}


def prepare_and_train(folder: Path, stop_at: int | None = None) -> Ensemble:
    """Perform the stages up to the training, which stops at that step; return the data of the run."""

    def reporter(stage: str) -> Report:
        def report(done: float, total: float, /, **figures: float | str) -> None:
            if stage == "train" and stop_at is not None and done >= stop_at:
                raise StoppedError("stopped")

        return report

    with open_run(STREAMED, folder, "test") as run:
        perform(run, STAGES[:3], reporter)
        return load_data(run)


def test_a_streamed_run_continues_with_the_same_bits(tmp_path: Path) -> None:
    data = prepare_and_train(tmp_path / "whole")
    assert len(data) == 12 * 4 * 10, "the data of the run are those of its simulation"
    assert len(list((tmp_path / "whole/model/stream/group-000").glob("positions-*.npy"))) == 4
    for step in (10, 30):
        with pytest.raises(StoppedError):
            prepare_and_train(tmp_path / "parts", step)
    prepare_and_train(tmp_path / "parts")
    whole, parts = (load_flow(tmp_path / name / "model/flow.safetensors") for name in ("whole", "parts"))
    states = whole.state_dict(), parts.state_dict()
    assert all(bool((states[0][name] == states[1][name]).all()) for name in states[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream": {"every": 0}}, "stream: every: got 0"),
        ({"stream": {"evry": 5}}, "did you mean every"),
        ({"stages": [], "annealing": {}}, "no stage learns from data"),
        ({"data": {"ladders": 9}}, "data.ladders of 10 or more"),
    ],
)
def test_bad_settings_are_told_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve_settings({"system": {"source": "ACE-ALA-NME"}, "stream": {}} | change)
    assert "\n" not in str(caught.value)


def test_what_streams_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_and_train(tmp_path / "run")
    with pytest.raises(InputError, match="use `gibbsian run`"):
        gibbsian.fit(built_in("ACE-ALA-NME"), data, settings={"stream": {}})
    monkeypatch.setattr(runs, "size", lambda: 2)
    with pytest.raises(InputError, match="stream: runs in one process only"), open_run(STREAMED, tmp_path / "two", "t"):
        pass
