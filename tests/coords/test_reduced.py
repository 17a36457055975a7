import math
import warnings

import numpy as np
import pytest
import torch
from peptides import peptide, random_conformations, random_internal

from gibbsian.chem.residues import chi_atoms, omega_atoms, phi_atoms, psi_atoms
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import log_jacobian, wrap
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import InputError

RESIDUES = "ALA ARG ASN ASP CYS GLN GLU GLY HIE ILE LEU LYS MET NLE PHE PRO SER THR TRP TYR VAL".split()


def reduced(topology: Topology, rotors: bool = True) -> ReducedCoordinates:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ReducedCoordinates(topology, rotors)


def test_counts_of_dialanine():
    coordinates = ReducedCoordinates(peptide("ACE-ALA-NME"))
    variables, frozen = coordinates.variables, coordinates.frozen
    assert (variables.n, int(variables.backbone.sum()), frozen.n) == (12, 9, 48)
    assert (variables.kinds.count("angle"), variables.kinds.count("rotor")) == (5, 3)
    fewer = ReducedCoordinates(peptide("ACE-ALA-NME"), rotors=False)
    assert (fewer.variables.n, fewer.frozen.kinds.count("rotor")) == (9, 3)


@pytest.mark.parametrize("length", [2, 7])
def test_backbone_of_a_chain_without_caps_has_6l_minus_5_variables(length):
    coordinates = ReducedCoordinates(peptide("NALA-" + "VAL-" * (length - 2) + "CLEU"))
    variables = coordinates.variables
    assert int(variables.backbone.sum()) == 6 * length - 5
    assert int((~variables.periodic).sum()) == 3 * length - 2
    assert {variables.kinds[k] for k in np.flatnonzero(variables.backbone)} == {"angle", "phi", "psi", "omega"}


@pytest.mark.parametrize("residue", RESIDUES)
def test_every_phi_psi_omega_and_chi_is_free_and_has_its_name(residue):
    topology = peptide(f"ACE-{residue}-NME")
    coordinates = reduced(topology, rotors=False)
    x = random_conformations(topology, 2)
    free, _ = coordinates.from_x(x)
    variables = coordinates.variables
    wanted = [("phi", 1, phi_atoms(topology, 1)), ("psi", 1, psi_atoms(topology, 1))]
    wanted += [("omega", r, omega_atoms(topology, r)) for r in (1, 2)]
    chi = chi_atoms(topology, 1)
    wanted += [(f"chi{k}", 1, atoms) for k, atoms in enumerate(chi[:1] if residue == "PRO" else chi, 1)]
    for kind, owner, atoms in wanted:
        (k,) = [k for k in range(variables.n) if variables.kinds[k] == kind and variables.residues[k] == owner]
        expected = torch.from_numpy(dihedral(x.numpy(), np.array([atoms]))[:, 0])
        assert float(wrap(free[:, k] - expected).abs().max()) < 1e-9
    assert sum(kind != "angle" for kind in variables.kinds) == len(wanted)


def test_tokens_go_residue_by_residue_backbone_first():
    variables = ReducedCoordinates(peptide("ACE-LYS-SER-NME")).variables
    rank = [(int(r), not b) for r, b in zip(variables.residues, variables.backbone, strict=True)]
    assert rank == sorted(rank)
    lysine = [kind for kind, r in zip(variables.kinds, variables.residues, strict=True) if r == 1]
    assert lysine[:6] == ["angle", "omega", "angle", "phi", "angle", "psi"]
    assert lysine[6:] == ["chi1", "chi2", "chi3", "chi4", "rotor"]
    assert set(variables.residue_names) == {"ACE", "LYS", "SER", "NME"}


@pytest.mark.parametrize("sequence", ["ACE-ILE-TRP-NME", "NPHE-PRO-CARG"])
def test_split_and_join_are_inverse_and_the_volume_element_is_the_sum_of_its_parts(sequence):
    topology = peptide(sequence)
    coordinates = reduced(topology)
    y = random_internal(coordinates.full, 5)
    free, frozen = coordinates.split(y)
    again = coordinates.join(free + 4.0 * math.pi * torch.from_numpy(coordinates.variables.periodic).double(), frozen)
    for part, other in zip(y, again, strict=True):
        assert torch.allclose(wrap(part - other), torch.zeros(()).double(), atol=1e-12)
    parts = coordinates.log_jacobian_free(free) + coordinates.log_jacobian_frozen(frozen)
    assert torch.allclose(parts, log_jacobian(y), atol=1e-10)


def test_free_coordinates_survive_a_rebuild_with_other_frozen_ones():
    topology = peptide("ACE-ILE-TRP-NME")
    coordinates = ReducedCoordinates(topology)
    x = random_conformations(topology, 6)
    c0 = coordinates.mean_frozen(x)
    free, frozen = coordinates.from_x(x)
    rebuilt, held = coordinates.from_x(coordinates.to_x(free, c0))
    circle = torch.from_numpy(coordinates.variables.periodic)
    assert float(torch.where(circle, wrap(rebuilt - free), rebuilt - free).abs().max()) < 1e-10
    assert float((held - c0).abs().max()) < 1e-10
    assert float((frozen - c0).abs().max()) > 1e-3


def test_means_are_weighted_circular_and_in_a_well_of_frozen_rotors():
    topology = peptide("ACE-ALA-NME")
    coordinates = ReducedCoordinates(topology, rotors=False)
    y = random_internal(coordinates.full, 300, seed=3)
    free, frozen = coordinates.split(y)
    early = torch.arange(300) < 150
    seam = int(np.flatnonzero(coordinates.frozen.of("delta"))[0])
    rotor = int(np.flatnonzero(coordinates.frozen.of("rotor"))[0])
    frozen[:, seam] = wrap(math.pi + torch.where(early, 0.2, -0.1).double())
    frozen[:, rotor] = torch.tensor([1.0, -2.0]).double().repeat_interleave(torch.tensor([200, 100]))
    log_w = torch.where(early, 0.0, -40.0)
    c0 = coordinates.mean_frozen(coordinates.to_x(free, frozen), log_w)
    assert float(wrap(c0[seam] - math.pi - 0.2).abs()) < 1e-7
    plain = coordinates.mean_frozen(coordinates.to_x(free, frozen))
    assert float(wrap(plain[seam] - math.pi - 0.05).abs()) < 1e-7
    assert float((plain[rotor] - 1.0).abs()) < 1e-9


def test_proline_has_one_warning_and_a_free_chi1():
    with pytest.warns(UserWarning, match="proline 2, 4 is no coordinate") as found:
        coordinates = ReducedCoordinates(peptide("ACE-PRO-ALA-PRO-NME"))
    assert len(found) == 1
    assert [k for k in coordinates.variables.kinds if k.startswith("chi")] == ["chi1", "chi1"]


def test_disulfides_are_refused_in_one_line():
    topology = peptide("ACE-CYX-GLY-CYX-NME")
    sulfurs = [i for i, element in enumerate(topology.elements) if element == "S"]
    bonds = np.array(sorted([*map(tuple, topology.bonds.tolist()), tuple(sulfurs)]))
    closed = Topology(**{**topology.to_dict(), "residue_index": topology.residue_index, "bonds": bonds})
    with pytest.raises(InputError, match="residues 2 and 4 are joined by a disulfide"):
        ReducedCoordinates(closed)


def test_a_molecule_without_a_backbone_has_a_chain_of_its_own():
    names = ("C1", "C2", "C3", "C4", "F1")
    bonds = np.array([[0, 1], [1, 2], [2, 3], [2, 4]])
    chain = Topology(names, tuple("CCCCF"), np.zeros(5, dtype=np.int64), ("MOL",), ("1",), bonds)
    coordinates = ReducedCoordinates(chain)
    assert coordinates.variables.kinds == ("angle", "angle", "rotor")
    assert coordinates.frozen.kinds == ("delta", "angle", "bond", "bond", "bond", "bond")
