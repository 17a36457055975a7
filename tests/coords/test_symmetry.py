import numpy as np
import torch
from peptides import peptide, random_conformations

from gibbsian.chem.residues import symmetry_groups
from gibbsian.coords.align import rmsd, superpose
from gibbsian.coords.gauge import centred, random_rotations
from gibbsian.coords.internal import InternalCoordinates
from gibbsian.coords.permutations import random_relabelling


def test_relabelling_moves_equivalent_atoms_only_and_keeps_handedness():
    topology = peptide("ACE-ALA-NME")
    x = random_conformations(topology, 200)
    groups = symmetry_groups(topology)
    relabelled = random_relabelling(x, groups, torch.Generator().manual_seed(0))
    moved = (relabelled != x).any(-1)
    allowed = {atom for group in groups for atom in group.atoms}
    assert set(torch.where(moved.any(0))[0].tolist()) == allowed
    assert torch.equal(relabelled.sort(1).values, x.sort(1).values)
    share = moved[:, groups[0].atoms[0]].double().mean()
    assert 0.5 < float(share) < 0.8  # two of three labellings move an atom
    coordinates = InternalCoordinates(topology)
    deltas = [k for k, kind in enumerate(coordinates.zmatrix.kinds) if kind == "delta"]
    before = coordinates.forward(x)[0].torsions[:, deltas]
    after = coordinates.forward(relabelled)[0].torsions[:, deltas]
    assert torch.equal(torch.sign(torch.sin(before)), torch.sign(torch.sin(after)))


def test_relabelling_leaves_the_energy_unchanged():
    from openmm import Context, Platform, VerletIntegrator, app, unit

    topology = peptide("ACE-ILE-LYS-NME")
    x = random_conformations(topology, 4, seed=1)
    relabelled = random_relabelling(x, symmetry_groups(topology), torch.Generator().manual_seed(1))
    assert not torch.equal(x, relabelled)
    top = app.Topology()
    chain = top.addChain()
    residues = [top.addResidue(name, chain) for name in topology.residue_names]
    atoms = [
        top.addAtom(name, app.Element.getBySymbol(element), residues[r])
        for name, element, r in zip(topology.atom_names, topology.elements, topology.residue_index, strict=True)
    ]
    for a, b in topology.bonds.tolist():
        top.addBond(atoms[a], atoms[b])
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(top)
    context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))

    def energy(frame: np.ndarray) -> float:
        context.setPositions(frame)
        return context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)

    for a, b in zip(x.numpy(), relabelled.numpy(), strict=True):
        assert abs(energy(a) - energy(b)) <= 1e-12 * abs(energy(a)) + 1e-6


def test_superposition_undoes_a_rigid_motion_and_never_mirrors():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 9, 3, generator=generator, dtype=torch.float64)
    rotations = random_rotations(5, generator)
    identity = torch.eye(3, dtype=torch.float64).expand(5, 3, 3)
    assert torch.allclose(rotations @ rotations.transpose(1, 2), identity, atol=1e-12)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(5, dtype=torch.float64))
    moved, distance = superpose(x @ rotations + 2.0, x)
    assert torch.allclose(moved, x, atol=1e-10)
    assert float(distance.max()) < 1e-10
    assert float(rmsd(x * torch.tensor([1.0, 1.0, -1.0]), x).min()) > 0.1
    assert float(centred(x + 3.0).mean(1).abs().max()) < 1e-12


def test_superposition_by_weights_ignores_the_other_atoms():
    x = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    disturbed = x.clone()
    disturbed[:, 4:] += 1.0
    weights = torch.tensor([1.0, 1, 1, 1, 0, 0])
    assert float(rmsd(disturbed, x, weights).max()) < 1e-10
    assert float(rmsd(disturbed, x).min()) > 0.1
