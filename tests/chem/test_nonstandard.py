"""Norleucine: its templates, the molecules that hold it, and what is said where there is none."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from chem_helpers import energy

from gibbsian.chem import library
from gibbsian.chem.convert import pdb_string
from gibbsian.chem.nonstandard import TEMPLATES, template_residues
from gibbsian.chem.residues import NONSTANDARD, chi_atoms, chiral_centres, symmetry_groups
from gibbsian.chem.sequence import parse_sequence
from gibbsian.chem.system import System
from gibbsian.errors import InputError

HAS_IT = pytest.mark.parametrize("forcefield", ["amber14", "charmm36"])


def _angles(system: System) -> set[tuple[int, int, int]]:
    near = system.topology.neighbours
    return {(a, b, c) for b, around in enumerate(near) for a in around for c in around if a < c}


def _about_the_side_chain(system: System) -> set[frozenset[int]]:
    near = system.topology.neighbours
    axis = [
        system.topology.atom_names.index(name, system.topology.atoms_of(1)[0])
        for name in ("CA", "CB", "CG", "CD", "CE")
    ]
    pairs = list(pairwise(axis))
    return {frozenset((a, b, c, d)) for b, c in pairs for a in near[b] for d in near[c] if a != c and d != b}


def _forces(system: System, kind: type) -> Iterator[Any]:
    return (force for force in system.openmm_system.getForces() if isinstance(force, kind))


@HAS_IT
def test_charges_in_the_file_add_up_to_nothing_exactly(forcefield):
    (residue,) = template_residues(forcefield)
    assert sum(Decimal(atom.attrib["charge"]) for atom in residue.iter("Atom")) == 0
    assert set(TEMPLATES) == NONSTANDARD


@HAS_IT
def test_the_residue_is_neutral_and_has_every_bonded_term(forcefield):
    system = System.from_sequence("ACE-NLE-NME", forcefield, "vacuum")
    assert system.parameters.nonbonded is not None
    charges = system.parameters.nonbonded.charges
    assert len(system.topology.atoms_of(1)) == 19
    assert charges.sum() == pytest.approx(0.0, abs=1e-12)
    assert charges[system.topology.atoms_of(1)].sum() == pytest.approx(0.0, abs=1e-12)
    bonds = {
        tuple(sorted(f.getBondParameters(k)[:2]))
        for f in _forces(system, openmm.HarmonicBondForce)
        for k in range(f.getNumBonds())
    }
    angles, torsions = set(), set()
    for force in _forces(system, openmm.HarmonicAngleForce):
        for k in range(force.getNumAngles()):
            a, b, c = force.getAngleParameters(k)[:3]
            angles.add((min(a, c), b, max(a, c)))
    for force in _forces(system, openmm.PeriodicTorsionForce):
        torsions |= {frozenset(force.getTorsionParameters(k)[:4]) for k in range(force.getNumTorsions())}
    assert {(i, j) for i, j in system.topology.bonds.tolist()} <= bonds
    assert _angles(system) <= angles
    assert _about_the_side_chain(system) <= torsions


def test_charges_of_ff14sb_are_transferred_as_the_template_says():
    from openmm import app

    (mine,) = template_residues("amber14")
    templates = app.ForceField("amber14/protein.ff14SB.xml")._templates
    mine = {atom.attrib["name"]: float(atom.attrib["charge"]) for atom in mine.iter("Atom")}
    lysine, isoleucine = (
        {atom.name: atom.parameters["charge"] for atom in templates[name].atoms} for name in ("LYN", "ILE")
    )
    kept = {name: lysine[name] for name in mine if name[1:2] not in ("D", "E")}
    assert {name: mine[name] for name in kept} == kept
    assert (mine["HD2"], mine["CE"], mine["HE1"]) == (isoleucine["HG12"], isoleucine["CD1"], isoleucine["HD11"])
    assert abs(mine["CD"] - isoleucine["CG1"]) < 0.014


def test_villin_with_two_norleucines():
    system = library.built_in("HP35-nle")
    names = system.topology.residue_names
    assert (system.n_atoms, [k + 1 for k, name in enumerate(names) if name == "NLE"]) == (576, [24, 29])
    assert (names[26], names.count("LYS")) == ("HIE", 3)
    assert system.parameters.nonbonded is not None
    assert system.parameters.nonbonded.charges.sum() == pytest.approx(0.0, abs=1e-9)
    assert any(change.startswith("NLE 24, NLE 29: transferred charges") for change in system.changes)
    x = system.positions
    hands = [np.dot(np.cross(x[a] - x[p], x[b] - x[p]), x[c] - x[p]) for p, a, b, c in chiral_centres(system.topology)]
    assert len(hands) == 34, "34 alpha carbons with a CB, and the CB of Thr, without the two glycines"
    assert min(hands) > 0.0
    assert [len(chi_atoms(system.topology, k)) for k in (23, 28)] == [3, 3]
    methyls = {group.atoms for group in symmetry_groups(system.topology) if group.name == "methyl"}
    assert {tuple(system.topology.find(k, f"HE{n}") for n in (1, 2, 3)) for k in (23, 28)} <= methyls


def test_a_mutation_that_finds_no_residue_is_never_passed_over(tmp_path):
    structure = tmp_path / "x.pdb"
    structure.write_text("ATOM      1  CA  LYS     7       1.000   1.000   1.000\n")
    with pytest.raises(ValueError, match="lacks a residue"):
        library._mutated(structure, "LYS 7 NLE, LYS 8 NLE", tmp_path)


def test_a_file_with_norleucine_is_read_and_repaired(tmp_path: Path):
    made = System.from_sequence("ACE-ALA-NLE-NME", "amber14", "obc2")
    text = pdb_string(made.topology, made.positions)
    path = tmp_path / "x.pdb"
    path.write_text(text)
    read = System.from_pdb(path, "amber14", "obc2")
    assert read.changes == made.changes
    assert read.topology.atom_names == made.topology.atom_names
    cut = [
        line for line in text.splitlines() if line[17:20] != "NLE" or line[12:16].strip() in ("N", "CA", "C", "CB", "O")
    ]
    path.write_text("\n".join(cut))
    regrown = System.from_pdb(path, "amber14", "obc2")
    assert sorted(regrown.topology.atom_names) == sorted(made.topology.atom_names)
    assert "residue NLE 3: CG, CD, CE" in regrown.changes[0]
    assert energy(regrown) < energy(made) + 100.0


@pytest.mark.parametrize("forcefield", ["amber96", "amber99sbildn", "amber19"])
def test_a_force_field_without_a_template_is_refused(forcefield):
    line = f"forcefield {forcefield}: no template for NLE 2; choose one of amber14, charmm36"
    with pytest.raises(InputError, match=line):
        System.from_sequence("ACE-NLE-NME", forcefield, "obc2" if forcefield == "amber19" else "vacuum")


def test_a_charged_end_needs_charmm():
    with pytest.raises(InputError, match="no template for NLE 2 at the end of a chain; use termini capped") as error:
        System.from_sequence("A-NLE", "amber14", "vacuum")
    assert "\n" not in str(error.value)
    assert System.from_sequence("A-NLE", "charmm36", "vacuum").n_atoms == 32


def test_the_name_has_three_letters_and_dashes():
    assert parse_sequence("ACE-NLE-NME") == ["ACE", "NLE", "NME"]
    assert parse_sequence("KNLEK") == ["LYS", "ASN", "LEU", "GLU", "LYS"]
    with pytest.raises(InputError, match="one residue or three; write N-L-E or NLE-NME"):
        parse_sequence("NLE")
