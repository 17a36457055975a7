from pathlib import Path

import numpy as np
import pytest
from chem_helpers import energy

from gibbsian.chem.convert import pdb_string, write_pdb
from gibbsian.chem.system import System
from gibbsian.errors import InputError


@pytest.fixture(scope="module")
def peptide() -> System:
    return System.from_sequence("GAHTIPK", "amber14", "obc2")


@pytest.fixture
def lines(peptide) -> list[str]:
    text = pdb_string(peptide.topology, peptide.positions)
    return text.replace("HIS", "HIE").splitlines()


def _write(folder: Path, lines: list[str], name: str = "x.pdb") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def _edit(lines: list[str], residue: int, change) -> list[str]:
    return [change(line) if line.startswith("ATOM") and int(line[22:26]) == residue else line for line in lines]


def test_complete_structure_keeps_its_coordinates(tmp_path, peptide):
    path = tmp_path / "whole.pdb"
    write_pdb(path, peptide.topology, peptide.positions)
    system = System.from_pdb(path, "amber14", "obc2")
    assert system.changes == ()
    assert (system.sequence, system.termini) == (peptide.sequence, "zwitterionic")
    np.testing.assert_allclose(system.positions, peptide.positions, atol=6e-5)
    assert energy(system) == pytest.approx(energy(peptide), abs=10.0)


def test_stripped_hydrogens_come_back(tmp_path, peptide, lines):
    path = _write(tmp_path, [line for line in lines if not line.endswith(" H")])
    first, second = System.from_pdb(path, "amber14", "obc2"), System.from_pdb(path, "amber14", "obc2")
    assert first.topology.atom_names == peptide.topology.atom_names
    assert any("hydrogens" in change for change in first.changes)
    np.testing.assert_array_equal(first.positions, second.positions)
    assert energy(first) < energy(peptide) + 200.0


def test_missing_side_chain_and_solvent_are_repaired_and_reported(tmp_path, peptide, lines):
    cut = [line for line in lines if not (line[17:20] == "LYS" and line[12:16].strip() in ("CE", "NZ", "CD"))]
    cut = [line for line in cut if not line.endswith(" H")]
    water = "HETATM  900  O   HOH A 900      30.000  30.000  30.000  1.00  0.00           O"
    system = System.from_pdb(_write(tmp_path, [*cut[:-1], water, "END"]), "amber14", "obc2")
    assert sorted(system.topology.atom_names) == sorted(peptide.topology.atom_names)
    text = " ".join(system.changes)
    assert "1 HOH" in text
    assert "LYS 7" in text
    assert "CE" in text


def test_named_protonation_is_kept(tmp_path, peptide, lines):
    bare = [line for line in lines if not line.endswith(" H")]
    named = _edit(bare, 3, lambda line: line[:17] + "HIP" + line[20:])
    assert "HIP" in System.from_pdb(_write(tmp_path, named)).sequence


def test_caps_can_be_added(tmp_path, peptide):
    path = tmp_path / "whole.pdb"
    write_pdb(path, peptide.topology, peptide.positions)
    system = System.from_pdb(path, "amber14", "obc2", termini="capped")
    assert system.sequence == f"ACE-{peptide.sequence}-NME"
    assert energy(system) < 0.0


def test_mmcif(tmp_path, peptide):
    from openmm import app

    from gibbsian.chem.convert import to_openmm

    path = tmp_path / "x.cif"
    with path.open("w") as file:
        app.PDBxFile.writeFile(to_openmm(peptide.topology), peptide.positions * 10.0, file)
    system = System.from_pdb(path, "amber14", "obc2")
    np.testing.assert_allclose(system.positions, peptide.positions, atol=1e-3)
    assert system.sequence == peptide.sequence


def _mirror(line: str) -> str:
    x = -float(line[30:38])
    return f"{line[:30]}{x:8.3f}{line[38:]}"


def _rename(name: str):
    return lambda line: line[:17] + name + line[20:]


BAD = {
    "unknown residue": (lambda s: _edit(s, 2, _rename("MSE")), "chain A, residue MSE 2: unknown residue"),
    "ligand": (
        lambda s: [*s[:-1], "HETATM  900  C1  LIG A 900      30.000  30.000  30.000  1.00  0.00           C", "END"],
        "chain A, residue LIG 900: is a ligand",
    ),
    "two chains": (
        lambda s: [*s[:-1], *(line[:21] + "B" + line[22:] for line in s if line.startswith("ATOM")), "END"],
        r"2 chains \(A, B\)",
    ),
    "mirror image": (lambda s: [_mirror(li) if li.startswith("ATOM") else li for li in s], "ALA 2: is a D-amino acid"),
    "gap": (
        lambda s: [li for li in s if not (li.startswith("ATOM") and int(li[22:26]) == 4)],
        "broken chain.* HIS 3 and .* ILE 5",
    ),
    "nan": (lambda s: _edit(s, 2, lambda line: line[:30] + "     nan" + line[38:]), "ALA 2.*finite"),
    "letters": (lambda s: _edit(s, 2, lambda line: line[:30] + "  x.yyyy" + line[38:]), "cannot be read"),
    "no backbone": (
        lambda s: [li for li in s if not (li[12:16] == " CA " and li[22:26] == "   4")],
        "THR 4: has no CA",
    ),
    "only text": (lambda s: ["REMARK nothing", "END"], "no atoms|cannot be read"),
    "empty": (lambda s: [""], "is empty"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_files_name_the_place_in_one_line(case, tmp_path, lines):
    change, message = BAD[case]
    path = _write(tmp_path, change(lines))
    with pytest.raises(InputError, match=message) as error:
        System.from_pdb(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        System.from_pdb(tmp_path / "absent.pdb")
    with pytest.raises(InputError, match="is a folder"):
        System.from_pdb(tmp_path)
    other = tmp_path / "x.txt"
    other.write_text("hello")
    with pytest.raises(InputError, match="unknown kind of file"):
        System.from_pdb(other)
