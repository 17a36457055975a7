from pathlib import Path

import numpy as np
import openmm
import pytest
from chem_helpers import all_residues, charged_residues, energy
from openmm import app

from gibbsian.chem import charmm
from gibbsian.chem.convert import pdb_string, to_openmm, write_pdb
from gibbsian.chem.forcefield import create_openmm_system
from gibbsian.chem.system import System


def charge(system: openmm.System) -> float:
    (force,) = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    return sum(force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles()))


@pytest.mark.parametrize(
    ("sequence", "net"),
    [
        ("ACE-ALA-NME", 0),
        ("ACE-AAA-NME", 0),
        ("ACE-ALA-NH2", 0),
        ("A", 0),
        ("AAA", 0),
        ("ACE-ALA-ALA", -1),
        ("GKP", 1),
        ("PDG", -1),
        ("GYDPETGTWG", -2),
        ("ACE-GYDPETGTWG-NME", -2),
        ("ACE-ASH-GLH-LYN-HID-NME", 0),
        ("ACE-HIP-CYM-ARG-NME", 1),
        ("CYM-ALA-ASH", -1),
    ],
)
def test_peptides_build_with_the_right_charge(sequence, net):
    system = System.from_sequence(sequence, "charmm36", "obc2")
    assert charge(system.openmm_system) == pytest.approx(net, abs=1e-9)
    assert -3000.0 < energy(system) < 500.0


@pytest.mark.slow
def test_energies_are_those_of_the_whole_file():
    small, whole = charmm.load(), app.ForceField(charmm.FILE)
    whole._templatePatches = small._templatePatches  # or it tries every patch on every lipid
    for peptide in (all_residues(), charged_residues()):
        topology = charmm.merge_caps(to_openmm(peptide.topology))
        first, second = (
            _terms(field.createSystem(topology, constraints=None, rigidWater=False), peptide.positions)
            for field in (small, whole)
        )
        assert len(first) >= 8
        assert first == second


def _terms(system: openmm.System, positions: np.ndarray) -> dict[str, float]:
    names = [force.getName() for force in system.getForces()]
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    return {
        f"{group} {name}": context.getState(energy=True, groups={group}).getPotentialEnergy()._value
        for group, name in enumerate(names)
    }


def test_disulphide_bridge_is_neutral():
    open_chain = System.from_sequence("ACE-CYM-GLY-GLY-CYM-NME", "amber14", "vacuum").topology
    topology = to_openmm(open_chain)
    bridge = [atom for atom in topology.atoms() if atom.name == "SG"]
    topology.addBond(*bridge)
    made = create_openmm_system(topology, "charmm36", "vacuum")
    assert charge(made) == pytest.approx(0.0, abs=1e-9)
    (bonds,) = [f for f in made.getForces() if isinstance(f, openmm.HarmonicBondForce)]
    pairs = {frozenset(bonds.getBondParameters(k)[:2]) for k in range(bonds.getNumBonds())}
    assert frozenset(atom.index for atom in bridge) in pairs


def test_read_from_a_file(tmp_path: Path):
    made = System.from_sequence("ACE-AAA-NME", "charmm36", "obc2")
    write_pdb(tmp_path / "x.pdb", made.topology, made.positions)
    read = System.from_pdb(tmp_path / "x.pdb", "charmm36", "obc2")
    assert read.changes == ()
    assert pdb_string(read.topology, read.positions) == pdb_string(made.topology, made.positions)
