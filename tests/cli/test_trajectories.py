"""The commands on trajectories, as a person types them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gibbsian.chem.convert import write_pdb
from gibbsian.chem.library import built_in
from gibbsian.cli.main import main
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.units import kt


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PDB file, and frames of it as an array, where the commands run."""
    system = built_in("ACE-ALA-NME")
    noise = np.random.default_rng(0).normal(size=(30, system.n_atoms, 3))
    np.save(tmp_path / "x.npy", (system.positions + 0.004 * noise).astype(np.float32))
    write_pdb(tmp_path / "top.pdb", system.topology, system.positions)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gibbsian", *line.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


MODEL = "--topology top.pdb --forcefield amber99sbildn --solvent amber99_obc"


def test_from_a_trajectory_to_energies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "convert x.npy x.dcd --topology top.pdb") == 0
    assert call(monkeypatch, f"annotate x.dcd {MODEL} --temperature 310 -o out") == 0
    spoken = capsys.readouterr()
    assert spoken.out == ""
    assert "100%" in spoken.err
    assert "warning" not in spoken.err
    u = Ensemble.load(folder / "out").u
    assert u is not None
    options = "--forcefield amber99sbildn --solvent amber99_obc"
    for frames in ("x.dcd", "out"):
        assert call(monkeypatch, f"energy top.pdb --frames {frames} {options}") == 0
        printed = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:]]
        np.testing.assert_allclose(u * kt(310.0), printed, atol=1e-5)


def test_rounded_frames_are_announced_beside_the_energies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "convert x.npy x.xtc --topology top.pdb -n 10") == 0
    assert "compute no weights from x.xtc" in capsys.readouterr().err
    for line in ("energy top.pdb --frames x.xtc", f"annotate x.xtc {MODEL} -o rounded"):
        assert call(monkeypatch, line) == 0
        assert capsys.readouterr().err.count("rounded to 0.001 nm") == 1
    assert call(monkeypatch, "energy top.pdb --frames rounded") == 0
    assert "rounded to 0.001 nm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("annotate none.dcd --topology top.pdb -o out", "none.dcd"),
        ("annotate x.npy -o out", "--topology"),
        ("annotate . --topology top.pdb -o out", "is a folder"),
        ("annotate x.npy --topology top.pdb --engine magic -o out", "magic"),
        ("annotate x.npy --topology top.pdb --solvent water -o out", "water"),
        ("annotate x.npy --topology top.pdb -o top.pdb", "top.pdb"),
        ("convert x.npy x.dcd", "x.npy"),
        ("convert x.npy x.gro --topology top.pdb", "gro"),
        ("convert none.npy x.dcd --topology top.pdb", "none.npy"),
        ("convert x.npy none/x.dcd --topology top.pdb", "cannot write"),
        ("convert x.npy x.dcd --topology top.pdb -n 0", "no frames"),
        ("convert x.npy x.dcd --topology top.pdb -n -5", "no frames"),
        ("energy top.pdb --frames none.dcd", "none.dcd"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, word: str
) -> None:
    assert call(monkeypatch, line) == 2
    spoken = capsys.readouterr()
    assert spoken.out == ""
    last = [text for text in spoken.err.splitlines() if text.startswith("gibbsian: ")]
    assert len(last) == 1
    assert word in last[0]
    assert "Traceback" not in spoken.err
    assert {path.name for path in folder.iterdir()} <= {"x.npy", "top.pdb", "out"}
