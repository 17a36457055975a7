import numpy as np
import pytest
from chem_helpers import all_residues, dihedral, energy

from gibbsian.chem.residues import (
    chi_atoms,
    chiral_centres,
    omega_atoms,
    parent,
    phi_atoms,
    psi_atoms,
    symmetry_groups,
)
from gibbsian.chem.system import System


def test_every_symmetry_leaves_the_energy_alone():
    system = all_residues()
    rng = np.random.default_rng(0)
    x = system.positions + 0.005 * rng.standard_normal(system.positions.shape)
    before = energy(system, x)
    groups = symmetry_groups(system.topology)
    assert {g.name for g in groups} == {"methyl", "ammonium", "carboxylate", "guanidinium", "ring"}
    for group in groups:
        assert group.permutations[0] == group.atoms
        for permutation in group.permutations[1:]:
            y = x.copy()
            y[list(group.atoms)] = x[list(permutation)]
            assert np.abs(y - x).max() > 0.01
            # Amber orders the atoms of an improper torsion by index where their types are equal: swaps are not exact.
            tolerance = 1e-6 if group.name in ("methyl", "ammonium") else 0.5
            assert energy(system, y) == pytest.approx(before, abs=tolerance)


def test_number_of_symmetries():
    # Methyls: ACE, NME, Ala, Ile 2, Leu 2, Met, Thr, Val 2. Swaps: Asp, Glu, Arg, Phe, Tyr. Ammonium: Lys.
    kinds = [g.name for g in symmetry_groups(all_residues().topology)]
    assert kinds.count("methyl") == 11
    assert kinds.count("ammonium") == 1
    assert kinds.count("carboxylate") == 2
    assert kinds.count("ring") == 2
    charged = symmetry_groups(System.from_sequence("AAA").topology)
    assert [g.name for g in charged].count("ammonium") == 1
    assert [g.name for g in charged].count("carboxylate") == 1


def test_protonated_acids_have_no_swap():
    topology = System.from_sequence("ACE-ASH-GLH-LYN-HIP-NME").topology
    assert topology.residue_names == ("ACE", "ASH", "GLH", "LYN", "HIP", "NME")
    assert {g.name for g in symmetry_groups(topology)} == {"methyl"}


def test_torsions():
    topology = all_residues().topology
    counts = {parent(name): len(chi_atoms(topology, i)) for i, name in enumerate(topology.residue_names)}
    expected = {"ALA": 0, "GLY": 0, "ARG": 5, "LYS": 4, "GLU": 3, "GLN": 3, "MET": 3, "TRP": 2, "PRO": 2, "VAL": 1}
    expected |= {"SER": 1, "HIS": 2, "ILE": 2}
    assert {name: counts[name] for name in expected} == expected
    assert phi_atoms(topology, 0) is None
    assert psi_atoms(topology, topology.n_residues - 1) is None
    for residue in range(1, topology.n_residues):
        atoms = omega_atoms(topology, residue)
        assert atoms is not None
        assert abs(dihedral(all_residues().positions, atoms)) > 150.0


def test_all_residues_are_left_handed():
    system = all_residues()
    x, centres = system.positions, chiral_centres(system.topology)
    assert len(centres) == 19 + 2  # all but Gly, and the CB of Ile and Thr
    for c, i, j, k in centres:
        assert np.dot(np.cross(x[i] - x[c], x[j] - x[c]), x[k] - x[c]) > 1e-3


@pytest.mark.parametrize(("name", "atoms"), [("VAL", ("CB", "CA", "CG1", "CG2")), ("LEU", ("CG", "CB", "CD1", "CD2"))])
def test_prochiral_methyls_carry_the_names_of_the_standard(name, atoms):
    system = all_residues()
    residue = system.topology.residue_names.index(name)
    c, i, j, k = (system.positions[system.topology.find(residue, a)] for a in atoms)
    assert np.dot(np.cross(i - c, j - c), k - c) < 0
