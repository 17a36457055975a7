import subprocess
import sys
from pathlib import Path

import pytest

from gibbsian.cli.main import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gibbsian", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


BAD = {
    "unknown residue": (["run", "ACE-XYZ-NME"], "XYZ"),
    "unknown letter": (["run", "AAXB"], "X"),
    "unknown force field": (["run", "AAA", "--forcefield", "amber77"], "amber77"),
    "invalid pair": (["run", "AAA", "--forcefield", "amber14", "--solvent", "amber99_obc"], "amber99_obc"),
    "temperature": (["run", "AAA", "--temperature", "-5"], "-5"),
    "unknown recipe": (["run", "AAA", "--recipe", "magic"], "magic"),
    "missing file": (["run", "missing.pdb"], "missing.pdb"),
    "no run here": (["train", "nowhere"], "nowhere"),
    "nothing to evaluate": (["evaluate"], "--ensemble"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, word = BAD[case]
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert word in error
    assert not list(tmp_path.iterdir()), "a refused run must leave nothing"


def test_misspelt_key_gets_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("system: {source: AAA, temprature: 300}\n")
    assert call(monkeypatch, "check", str(tmp_path / "run.yaml")) == 2
    assert "did you mean temperature" in capsys.readouterr().err


def test_empty_fasta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.fasta").write_text("")
    assert call(monkeypatch, "check", str(tmp_path / "empty.fasta")) == 2
    assert "empty.fasta" in capsys.readouterr().err


def test_check_says_what_it_costs_and_where_the_recipe_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "check", "ACE-GLY-NME") == 0
    text = capsys.readouterr().err
    assert "suits 1 residue." in text
    assert "19 atoms" in text


def test_energy_of_frames_equals_the_oracle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "prepare", "ACE-ALA-NME", "-o", "run") == 0
    capsys.readouterr()
    choices = ["--forcefield", "amber99sbildn", "--solvent", "amber99_obc"]
    energies = []
    for engine in ("torch", "openmm"):
        assert call(monkeypatch, "energy", "run/system/topology.pdb", "--engine", engine, *choices) == 0
        energies.append(float(capsys.readouterr().out.split()[-1]))
    assert energies[0] == pytest.approx(energies[1], rel=1e-6)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['gibbsian', '--help']\n"
        "from gibbsian.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'openmm', 'numpy', 'scipy', 'mdtraj', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
