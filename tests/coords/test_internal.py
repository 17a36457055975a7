from dataclasses import replace

import numpy as np
import pytest
import torch
from peptides import peptide, random_conformations, random_internal

from gibbsian.chem.residues import chi_atoms, omega_atoms, phi_atoms, psi_atoms
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import InternalCoordinates, wrap
from gibbsian.coords.zmatrix import build_zmatrix
from gibbsian.errors import InputError
from gibbsian.testing.bijection import check_bijection

SMALL = ["ACE-ALA-NME", "ACE-ILE-NME", "ACE-TRP-NME", "ACE-PRO-NME", "ACE-ARG-NME", "NALA-GLY-CALA", "NPRO-CSER"]
RESIDUES = [
    "ALA",
    "ARG",
    "ASN",
    "ASP",
    "CYS",
    "GLN",
    "GLU",
    "GLY",
    "HIE",
    "HID",
    "HIP",
    "ILE",
    "LEU",
    "LYS",
    "MET",
    "NLE",
    "PHE",
    "PRO",
    "SER",
    "THR",
    "TRP",
    "TYR",
    "VAL",
]


def permuted(topology: Topology, seed: int) -> tuple[Topology, np.ndarray]:
    """Shuffle the atoms inside each residue; new atom k is old atom order[k]."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(topology.atoms_of(r)) for r in range(topology.n_residues)])
    new = np.argsort(order)
    return (
        Topology(
            atom_names=tuple(topology.atom_names[i] for i in order),
            elements=tuple(topology.elements[i] for i in order),
            residue_index=topology.residue_index[order],
            residue_names=topology.residue_names,
            residue_ids=topology.residue_ids,
            bonds=np.array(sorted(tuple(sorted(bond)) for bond in new[topology.bonds].tolist())),
        ),
        order,
    )


@pytest.mark.parametrize("sequence", SMALL)
def test_bijection(sequence):
    topology = peptide(sequence)
    check_bijection(InternalCoordinates(topology), random_conformations(topology, 2))


def test_round_trip_of_a_longer_peptide_is_exact_to_1e_12_nm():
    topology = peptide("NLEU-PHE-TRP-GLN-MET-TYR-HIE-PRO-THR-CASP")
    coordinates = InternalCoordinates(topology)
    y = random_internal(coordinates, 8)
    x, _ = coordinates.inverse(y)
    again, _ = coordinates.forward(x)
    back, _ = coordinates.inverse(again)
    first, second = (torch.linalg.vector_norm(v[:, :, None] - v[:, None], dim=-1) for v in (x, back))
    assert float((first - second).abs().max()) < 1e-12
    assert float(wrap(again.torsions - y.torsions).abs().max()) < 1e-10


@pytest.mark.parametrize("residue", RESIDUES)
def test_phi_psi_omega_and_chi_are_proper_torsions(residue):
    topology = peptide(f"ACE-{residue}-NME")
    z = build_zmatrix(topology)
    rows = {tuple(atoms): kind for atoms, kind in zip(z.torsion_atoms().tolist(), z.kinds, strict=True)}
    wanted = [phi_atoms(topology, 1), psi_atoms(topology, 1), omega_atoms(topology, 1), omega_atoms(topology, 2)]
    chi = chi_atoms(topology, 1)
    kind = "proper"
    if residue == "PRO":
        chi, kind = chi[:1], "ring"  # CD hangs from N, so the ring closes between CG and CD
    for torsion in wanted:
        assert torsion is not None
        assert rows[torsion[::-1]] == "proper"
    for torsion in chi:
        assert rows[torsion[::-1]] == kind


def test_counts():
    z = build_zmatrix(peptide("ACE-ALA-NME"))
    assert (z.n_atoms, z.kinds.count("proper"), z.kinds.count("delta")) == (22, 7, 12)
    length = 12
    z = build_zmatrix(peptide("NALA-" + "ALA-" * (length - 2) + "CALA"))
    names = [peptide("NALA-" + "ALA-" * (length - 2) + "CALA").atom_names[i] for i in z.atoms]
    backbone = [k for k, name in enumerate(names) if name in ("N", "CA", "C")]
    assert sum(k >= 2 for k in backbone) + sum(k >= 3 for k in backbone) == 6 * length - 5


def test_bonds_of_rows_are_bonds_and_references_come_first():
    topology = peptide("ACE-TRP-PRO-ARG-ILE-NME")
    z = build_zmatrix(topology)
    seen: set[int] = set()
    for atom, references in zip(z.atoms.tolist(), z.references.tolist(), strict=True):
        placed = [r for r in references if r >= 0]
        assert seen.issuperset(placed)
        if placed:
            assert placed[0] in topology.neighbours[atom]
        seen.add(atom)
    assert len(seen) == topology.n_atoms


def test_atom_order_does_not_matter():
    topology = peptide("ACE-ILE-TRP-NME")
    x = random_conformations(topology, 3)
    shuffled, order = permuted(topology, 1)
    y, log_det = InternalCoordinates(topology).forward(x)
    y2, log_det2 = InternalCoordinates(shuffled).forward(x[:, order])
    assert torch.allclose(log_det, log_det2, atol=1e-10)
    assert torch.allclose(y.torsions, y2.torsions, atol=1e-10)


def test_mirror_image_changes_the_sign_of_every_delta():
    topology = peptide("ACE-ILE-NME")
    coordinates = InternalCoordinates(topology)
    x = random_conformations(topology, 4)
    y, _ = coordinates.forward(x)
    mirrored, _ = coordinates.forward(x * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.allclose(wrap(y.torsions + mirrored.torsions), torch.zeros(()).double(), atol=1e-10)


def test_handedness_survives_random_torsions():
    topology = peptide("ACE-THR-NME")
    coordinates = InternalCoordinates(topology)
    x, _ = coordinates.inverse(random_internal(coordinates, 1000))
    for residue_atoms in (("CA", "N", "C", "CB"), ("CB", "CA", "OG1", "CG2")):
        centre, a, b, c = (topology.find(1, name) for name in residue_atoms)
        u, v, w = (x[:, i] - x[:, centre] for i in (a, b, c))
        signs = torch.sign((torch.linalg.cross(u, v) * w).sum(-1))
        assert bool((signs == signs[0]).all())


def test_gradient_flows_through_both_directions():
    topology = peptide("ACE-ALA-NME")
    coordinates = InternalCoordinates(topology)
    x = random_conformations(topology, 2).requires_grad_()
    y, _ = coordinates.forward(x)
    back, log_j = coordinates.inverse(y)
    (grad,) = torch.autograd.grad(torch.cdist(back, back).sum() + log_j.sum(), x)
    assert bool(torch.isfinite(grad).all())
    assert float(grad.sum(1).abs().max()) < 1e-9  # internal coordinates do not see translations


def test_float32_is_kept():
    topology = peptide("ACE-ALA-NME")
    y, log_det = InternalCoordinates(topology).forward(random_conformations(topology, 2).float())
    assert {y.bonds.dtype, y.angles.dtype, y.torsions.dtype, log_det.dtype} == {torch.float32}


def test_molecules_without_a_backbone():
    butane = Topology(
        atom_names=("C1", "C2", "C3", "C4"),
        elements=("C",) * 4,
        residue_index=np.zeros(4, dtype=np.int64),
        residue_names=("BUT",),
        residue_ids=("1",),
        bonds=np.array([[0, 1], [1, 2], [2, 3]]),
    )
    check_bijection(InternalCoordinates(butane), torch.randn(3, 4, 3, dtype=torch.float64))
    broken = replace(butane, bonds=np.array([[0, 1], [1, 2]]))
    with pytest.raises(InputError, match="not bonded"):
        build_zmatrix(broken)
