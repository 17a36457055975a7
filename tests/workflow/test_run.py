import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gibbsian.chem.library import built_in
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.readers import read_frames
from gibbsian.ensemble.reference import file_name, load_reference
from gibbsian.errors import InputError, StoppedError
from gibbsian.progress import Report
from gibbsian.testing.reference import toy_reference
from gibbsian.workflow import stages
from gibbsian.workflow.converting import convert
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.runfolder import hold, open_folder
from gibbsian.workflow.settings import read_settings
from gibbsian.workflow.stages import STAGES


def run_once(settings: Path, folder: Path, stop_after: int | None = None) -> int:
    """Perform all stages; stop after that many reports. Return how many there were."""
    count = 0

    def report(done: float, total: float, /, **figures: float | str) -> None:
        nonlocal count
        count += 1
        if count == stop_after:
            raise StoppedError("stopped")

    def reporter(stage: str) -> Report:
        return report

    with open_run(read_settings(settings), folder, str(settings)) as run:
        perform(run, STAGES, reporter)
    return count


def results(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text())
    content.pop("performance")
    return content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    from conftest import TINY

    base = tmp_path_factory.mktemp("undisturbed")
    (base / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return base / "tiny.yaml", base / "run", run_once(base / "tiny.yaml", base / "run")


def test_a_run_leaves_everything_the_design_names(undisturbed: tuple[Path, Path, int]) -> None:
    _, folder, _ = undisturbed
    for name in ("run.yaml", "manifest.json", "system/topology.pdb", "system/system.xml", "data", "model",
                 "samples/manifest.json", "samples/ensemble.xtc", "samples/topology.pdb", "results.json",
                 "report.html", "cite.bib"):  # fmt: skip
        assert (folder / name).exists(), name
    content = json.loads((folder / "results.json").read_text())
    assert content["system"] == "ACE-ALA-NME"
    assert content["samples"]["proposed"] == 2000
    assert 0 < content["ess"]["fraction"] <= 1
    assert {basin["name"].split()[-1] for basin in content["basins"]} == {"left", "alpha", "beta"}
    before = {stage.name for stage in STAGES} - {"evaluate", "report"}
    assert set(content["performance"]["seconds"]) == set(content["performance"]["core_seconds"]) == before
    paid = content["performance"]["core_seconds"]
    same_cost = content["performance"]["tt01"]["same_cost"]
    assert same_cost["core_seconds"] == pytest.approx(paid["simulate"] + paid["train"] + paid["sample"])


def test_its_simulation_converts_to_other_formats(undisturbed: tuple[Path, Path, int], tmp_path: Path) -> None:
    _, folder, _ = undisturbed
    said = list(convert(folder / "data", tmp_path / "drawn.dcd", n=7))
    assert said == [f"7 frames in {tmp_path / 'drawn.dcd'}"]
    drawn = read_frames(tmp_path / "drawn.dcd", built_in("ACE-ALA-NME").topology).positions
    assert drawn.shape == (7, 22, 3)


def test_a_run_is_held_against_a_certified_reference(
    undisturbed: tuple[Path, Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder, _ = undisturbed
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/results.json").unlink()
    (tmp_path / "run/report.html").unlink()
    samples = Ensemble.load(folder / "samples")
    # Three basins that cannot all be half of the ensemble: no flow can be right.
    half = toy_reference(
        samples, dict.fromkeys(("ALA2 left", "ALA2 alpha", "ALA2 beta"), 0.5), key=built_in("ACE-ALA-NME").key
    )
    half.save(tmp_path)
    monkeypatch.setattr(stages, "load_reference", lambda key: load_reference(key, tmp_path))
    run_once(settings, tmp_path / "run")
    content = json.loads((tmp_path / "run/results.json").read_text())
    assert content["reference"]["source"] == "certified"
    assert content["reference"]["file"] == file_name(half.key)
    assert [row["reference"]["value"] for row in content["basins"]] == [0.0, 0.0, 0.0]
    assert content["distances"][-1]["name"] == "certified_ram_tv_36x36"
    assert content["distances"][-1]["value"] < 0.02, "the histogram is that of the samples themselves"
    assert content["performance"]["tt01"]["flow"] is None
    assert "Against replica exchange" in (tmp_path / "run/report.html").read_text()


def test_attempts_add_up(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "run")
    folder.spend("train", 2.0, 3.5)
    folder.spend("train", 1.0, 1.25)
    assert folder.record()["seconds"] == {"train": 3.0}
    assert folder.record()["core_seconds"] == {"train": 4.75}


def test_stopping_at_every_stage_changes_nothing(undisturbed: tuple[Path, Path, int], tmp_path: Path) -> None:
    settings, folder, reports = undisturbed
    for stop_after in (1, reports // 3, reports // 4):
        with pytest.raises(StoppedError):
            run_once(settings, tmp_path / "run", stop_after)
    run_once(settings, tmp_path / "run")
    assert results(tmp_path / "run") == results(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, 7, 10])
def test_kill_9_changes_nothing(undisturbed: tuple[Path, Path, int], tmp_path: Path, seconds: float) -> None:
    settings, folder, _ = undisturbed
    command = [sys.executable, "-c", "from gibbsian.cli.main import main; main()", "run", str(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "-o", str(tmp_path / "run")], env=environment, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_once(settings, tmp_path / "run")
    assert results(tmp_path / "run") == results(folder)


def test_more_samples_top_up(undisturbed: tuple[Path, Path, int], tmp_path: Path) -> None:
    settings, folder, _ = undisturbed
    more = yaml.safe_load(settings.read_text()) | {"sampling": {"n": 3000}}
    larger = tmp_path / "more.yaml"
    larger.write_text(yaml.safe_dump(more))
    before = {path: path.stat().st_mtime_ns for path in (folder / "samples/chunks").glob("*.npy")}
    model = (folder / "model/flow.safetensors").stat().st_mtime_ns
    run_once(larger, folder)
    assert results(folder)["samples"]["proposed"] == 3000
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert (folder / "model/flow.safetensors").stat().st_mtime_ns == model
    run_once(settings, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": {"source": "ACE-GLY-NME"}}, "system.source"),
        ({"seed": 5}, "seed"),
        ({"stages": [{"name": "nll", "steps": 41, "batch": 64, "warmup": 5}]}, "stages"),
    ],
)
def test_a_folder_of_another_run_is_refused(
    undisturbed: tuple[Path, Path, int], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    settings, folder, _ = undisturbed
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | change))
    with pytest.raises(InputError, match=message):
        run_once(other, folder)


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "run")
    with hold(folder), pytest.raises(InputError, match="another run"), hold(folder):
        pass


def test_a_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not a run folder"):
        open_folder(tmp_path)
