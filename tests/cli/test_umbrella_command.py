"""`gibbsian umbrella`, as a person types it."""

import sys
from pathlib import Path

import pytest

from gibbsian.cli.main import main
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.kernels import is_built


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gibbsian", *line.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.skipif(not is_built(), reason="the compiled engine was not built")
def test_profile_picture_and_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"umbrella ACE-ALA-NME --torsion 2:phi --windows 18 --copies 2 --steps 1000 -o {tmp_path} --threads 2"
    assert call(monkeypatch, line + " --max-time 0") == 75
    capsys.readouterr()
    assert call(monkeypatch, line) == 0
    shown = capsys.readouterr()
    rows = shown.out.splitlines()
    assert rows[0].startswith("# 2:phi")
    assert len(rows) == 1 + 36 + 1 + 3
    assert float(rows[1].split()[0]) == -175.0
    assert min(float(row.split()[1]) for row in rows[1:37]) == 0.0
    assert "ALA2 left" in rows[38]
    assert "use more steps" in shown.err
    assert (tmp_path / "profile.png").read_bytes()[:4] == b"\x89PNG"
    assert len(Ensemble.load(tmp_path / "ensemble")) == 18 * 2 * 2
    assert call(monkeypatch, line + " --seed 1") == 2
    assert "choose another folder" in capsys.readouterr().err


def test_bad_torsions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, f"umbrella ACE-ALA-NME --torsion 2:chi1 -o {tmp_path}") == 2
    assert "the molecule has 2:phi, 2:psi" in capsys.readouterr().err
    assert call(monkeypatch, f"umbrella run.yaml --torsion 2:phi -o {tmp_path}") == 2
    assert "takes no run.yaml" in capsys.readouterr().err
