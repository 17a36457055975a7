import subprocess
import sys

import numpy as np
import openmm
import pytest
from chem_helpers import all_residues, energy

from gibbsian.chem.build import from_openmm
from gibbsian.chem.convert import to_openmm
from gibbsian.chem.library import built_in, built_in_names, resolve
from gibbsian.chem.sequence import parse_sequence
from gibbsian.chem.system import System
from gibbsian.errors import InputError

HASH = """
import hashlib
from gibbsian.chem.system import System
for sequence, field, solvent in (("ACE-ALA-NME", "amber99sbildn", "amber99_obc"), ("GYDPETGTWGKR", "amber14", "obc1")):
    system = System.from_sequence(sequence, field, solvent)
    print(hashlib.sha256(system.positions.tobytes()).hexdigest())
"""


def test_two_processes_build_the_same_bits():
    first, second = (subprocess.run([sys.executable, "-c", HASH], capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert len(first.stdout.split()) == 2


COUNTS = {
    "ACE-ALA-NME": 22, "ACE-ALA-NME@amber96": 22, "ACE-AAA-NME": 42, "AAA": 33, "AAAAAA": 63, "chignolin": 138,
    "CLN025": 166, "HP35-H27": 582, "HP35-N27": 579, "HP35-nle": 576,
    "protein-G": 855, "ubiquitin": 1231,
    "ACE-AAAAA-NME@amber96": 62, "ELIL@amber96": 75, "ACE-AAA-NME@amber96": 42,
}  # fmt: skip


@pytest.mark.parametrize("name", list(COUNTS))
def test_built_in_systems(name):
    system = built_in(name)
    assert system.n_atoms == COUNTS[name]
    assert energy(system) < 0.0
    assert system.parameters is not None


def test_all_built_in_names_are_counted_and_take_overrides():
    assert set(COUNTS) == set(built_in_names())
    system = resolve("ACE-ALA-NME", temperature=350.0, forcefield="amber14", solvent="gbn2")
    assert (system.forcefield, system.solvent, system.temperature) == ("amber14", "gbn2", 350.0)
    assert resolve("AAA").cutoff == 2.0
    with pytest.raises(InputError, match="unknown 'nothing'; built in are"):
        built_in("nothing")


def test_villin_with_asparagine_differs_from_its_template_in_one_residue_only():
    wild, mutant = built_in("HP35-H27"), built_in("HP35-N27")
    assert mutant.sequence == wild.sequence.replace("HIE", "ASN")
    assert mutant.parameters.nonbonded is not None
    assert mutant.parameters.nonbonded.charges.sum() == pytest.approx(2.0)
    alpha = [
        system.positions[[i for i, name in enumerate(system.topology.atom_names) if name == "CA"]]
        for system in (wild, mutant)
    ]
    shift = np.linalg.norm(alpha[0] - alpha[1], axis=-1)
    assert np.sqrt(np.mean(shift**2)) < 0.06, "only a short minimisation lies between them"
    assert any("ASN 27" in change for change in mutant.changes)


def test_all_residues_have_a_sane_energy():
    assert -5000.0 < energy(all_residues()) < 0.0
    assert all_residues().sequence.split("-")[9] == "HIE"


@pytest.mark.parametrize("letter", list("ARNDCQEGHILKMFPSTWYV"))
def test_each_residue_alone_between_caps(letter):
    system = System.from_sequence(f"ACE-{letter}-NME" if letter != "A" else "ACE-ALA-NME", "amber14", "obc2")
    assert system.termini == "capped"
    assert energy(system) < 300.0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ACE-ALA-NME", "ACE ALA NME"),
        ("ACE-AAA-NME", "ACE ALA ALA ALA NME"),
        ("A-L-A", "ALA LEU ALA"),
        ("AAA", "ALA ALA ALA"),
        ("ace-his-nme", "ACE HIE NME"),
        ("ACE-HSD-NMA", "ACE HID NME"),
        ("GYDP", "GLY TYR ASP PRO"),
    ],
)
def test_sequences(text, names):
    assert parse_sequence(text) == names.split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("ALA", "one residue or three"),
        ("AXA", "unknown residue 'X' at position 2"),
        ("ACE-XAA-NME", "unknown residue 'X.*position 2"),
        ("aaa", "D-residues are not supported"),
        ("ACE--NME", "nothing between two dashes"),
        ("ACE-NME", "caps without a residue"),
        ("ALA-ACE-ALA", "ACE at position 2; it can only come first"),
        ("NME-ALA", "it can only come last"),
        ("NME", "a cap alone"),
        ("A", "no residue with two charged ends"),
        ("ACE-CYX-NME", "CYX needs its partner"),
    ],
)
def test_bad_sequences(text, message):
    with pytest.raises(InputError, match=message) as error:
        System.from_sequence(text)
    assert "\n" not in str(error.value)


def test_termini():
    assert System.from_sequence("AA", termini="capped").sequence == "ACE-ALA-ALA-NME"
    assert System.from_sequence("AA").termini == "zwitterionic"
    assert System.from_sequence("ACE-ALA-ALA").termini == "custom"
    assert System.from_sequence("ACE-ALA-NH2").sequence == "ACE-ALA-NH2"
    with pytest.raises(InputError, match="zwitterionic, but"):
        System.from_sequence("ACE-ALA-NME", termini="zwitterionic")


def test_fasta(tmp_path):
    path = tmp_path / "peptide.fasta"
    path.write_text(">one\nGY\nD\n")
    assert resolve(path).sequence == "GLY-TYR-ASP"
    for content, message in (
        (">one\n", "no sequence"),
        ("", "is empty"),
        (">a\nG\n>b\nG\n", "2 records"),
        ("GXG", "'X'"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message) as error:
            resolve(path)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        resolve(tmp_path / "absent.fasta")


def test_from_openmm_keeps_the_model_and_relabels():
    made = System.from_sequence("ACE-ALA-NME", "amber14", "obc2", cutoff=1.5)
    topology = to_openmm(made.topology)
    swapped = made.positions.copy()
    a, b = made.topology.find(1, "HB1"), made.topology.find(1, "HB2")
    swapped[[a, b]] = swapped[[b, a]]
    system = from_openmm(topology, made.openmm_system, swapped, 320.0)
    assert (system.forcefield, system.cutoff, system.temperature) == ("custom", 1.5, 320.0)
    assert (system.topology.atom_names, system.sequence) == (made.topology.atom_names, made.sequence)
    hydrogens = [made.topology.find(1, f"HB{k}") for k in (1, 2, 3)]
    p, q, r = (system.positions[h] - system.positions[made.topology.find(1, "CB")] for h in hydrogens)
    assert np.dot(np.cross(p, q), r) > 0
    with pytest.raises(InputError, match="numbers of atoms differ"):
        from_openmm(topology, made.openmm_system, swapped[:-1], 320.0)
    swapped[3, 1] = np.nan
    with pytest.raises(InputError, match="atom 3 has no finite position"):
        from_openmm(topology, made.openmm_system, swapped, 320.0)
    constrained = openmm.XmlSerializer.clone(made.openmm_system)
    constrained.addConstraint(0, 1, 0.1)
    with pytest.raises(InputError, match="has constraints"):
        from_openmm(topology, constrained, made.positions, 320.0)


def test_resolve_needs_no_torch():
    code = "import sys; from gibbsian.chem.library import resolve; resolve('AAA'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
