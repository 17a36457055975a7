import numpy as np
import openmm
import pytest
from chem_helpers import all_residues, charged_residues, energy

from gibbsian.chem.convert import to_openmm
from gibbsian.chem.forcefield import FORCEFIELDS, PAIRS, SOLVENTS, check_pair, create_openmm_system, valid_solvents
from gibbsian.chem.system import System
from gibbsian.errors import InputError


@pytest.mark.parametrize("forcefield", list(FORCEFIELDS))
def test_every_valid_pair_builds_all_residues(forcefield):
    capped = all_residues()
    charged = charged_residues()
    for solvent in valid_solvents(forcefield):
        for system, cutoff in ((capped, None), (charged, 1.2)):
            made = create_openmm_system(to_openmm(system.topology), forcefield, solvent, cutoff)
            context = openmm.Context(made, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
            context.setPositions(system.positions)
            value = context.getState(energy=True).getPotentialEnergy()._value
            assert np.isfinite(value)
            assert abs(value) < 20_000.0
            assert made.getNumConstraints() == 0
            assert not any(isinstance(f, openmm.CMMotionRemover) for f in made.getForces())


def test_every_other_pair_is_refused_with_the_valid_ones():
    assert len(PAIRS) == 32
    for forcefield in FORCEFIELDS:
        for solvent in SOLVENTS:
            if (forcefield, solvent) in PAIRS:
                check_pair(forcefield, solvent)
                continue
            with pytest.raises(InputError, match="does not go with") as error:
                check_pair(forcefield, solvent)
            assert all(valid in str(error.value) for valid in valid_solvents(forcefield))
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forcefield": "amber12"}, "forcefield: unknown 'amber12'"),
        ({"solvent": "tip3p"}, "solvent: unknown 'tip3p'"),
        ({"cutoff": -1.0}, "cutoff: got -1.0"),
        ({"cutoff": float("nan")}, "cutoff: got nan"),
        ({"temperature": -5.0}, "temperature: got -5.0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"temperature": 0.0}, "temperature: got 0.0"),
        ({"termini": "amide"}, "termini: got 'amide'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        System.from_sequence("ACE-ALA-NME", **settings)


@pytest.mark.parametrize("solvent", ["amber99_obc", "obc2", "vacuum"])
def test_cutoff_has_no_water_beyond_it(solvent):
    system = System.from_sequence("ACE-ALA-NME", "amber99sbildn", solvent, cutoff=2.0)
    (nonbonded,) = [f for f in system.openmm_system.getForces() if isinstance(f, openmm.NonbondedForce)]
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.CutoffNonPeriodic
    assert nonbonded.getReactionFieldDielectric() == 1.0
    assert np.isfinite(energy(system))
