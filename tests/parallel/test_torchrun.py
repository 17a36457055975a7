import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.files import read_json

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gibbsian"]


def start(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_a_run_by_two_processes_makes_the_samples_of_one(tiny: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    alone = [sys.executable, "-m", "gibbsian"]
    for folder in folders:
        assert start(alone, "prepare", str(tiny), "-o", str(folder)).returncode == 0
    for command, folder in zip((alone, TWO), folders, strict=True):
        done = start(command, "sample", str(folder))
        assert done.returncode == 0, done.stderr
        stages = read_json(folder / "manifest.json")["stages"]
        assert list(stages) == ["prepare", "simulate", "train", "sample"]
    one, two = (Ensemble.load(folder / "samples") for folder in folders)
    assert len(one) == len(two) == 2000
    assert one.ess_fraction == pytest.approx(two.ess_fraction, rel=0.05)
    again = start(TWO, "sample", str(folders[1]))  # nothing is left to do
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_what_torchrun_cannot_share_is_refused_once(tiny: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(tiny.read_text())
    settings["sampling"]["method"] = "exchange"
    tiny.write_text(yaml.safe_dump(settings))
    for arguments, said in (
        (("doctor",), "torchrun: only run, train"),
        (("run", str(tiny), "-o", str(tmp_path / "run")), "exchange runs in one process only"),
    ):
        done = start(TWO, *arguments)
        assert done.returncode != 0
        assert done.stderr.count("gibbsian: ") == 1
        assert said in done.stderr
    assert not (tmp_path / "run").exists()
