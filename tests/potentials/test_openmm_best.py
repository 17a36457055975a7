import numpy as np
import openmm
import pytest
import torch

from gibbsian.chem.system import System
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.potentials.openmm_best import with_builtin_born


@pytest.mark.parametrize("cutoff", [None, 0.9])
def test_swapped_force_has_the_same_energy_and_force(cutoff: float | None) -> None:
    system = System.from_sequence("ACE-AKE-NME", "amber14", "obc2", cutoff=cutoff)
    swapped = with_builtin_born(system)
    assert swapped is not None
    kinds = [type(force) for force in swapped.getForces()]
    assert kinds.count(openmm.GBSAOBCForce) == 1
    assert openmm.CustomGBForce not in kinds
    noise = np.random.default_rng(0).normal(size=(4, system.n_atoms, 3))
    x = torch.from_numpy(system.positions + 0.005 * noise)
    with (
        OpenMMPotential(system.openmm_system, 1, "Reference") as shipped,
        OpenMMPotential(swapped, 1, "Reference") as best,
    ):
        energy, force = shipped.energy_and_force(x)
        other, other_force = best.energy_and_force(x)
    # The rounded Coulomb constant of the custom force acts on a solvation energy of hundreds of kJ/mol.
    assert (energy - other).abs().max() < 5e-4
    assert (force - other_force).abs().max() < 1e-5 * force.square().mean().sqrt()


@pytest.mark.parametrize("solvent", ["obc1", "gbn2", "vacuum"])
def test_other_models_cannot_be_swapped(solvent: str) -> None:
    assert with_builtin_born(System.from_sequence("ACE-ALA-NME", "amber14", solvent)) is None
