"""What of an OpenMM System is recognised."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import openmm as mm
import pytest
import torch
from molecules import molecule, noisy, oracle

from gibbsian.chem.parameters import extract
from gibbsian.potentials import TorchPotential


@pytest.mark.parametrize("kind", ["hct", "obc1", "obc2", "gbn", "gbn2"])
@pytest.mark.parametrize("surface", ["ACE", None])
def test_generated_born_models(kind: str, surface: str | None) -> None:
    system, _ = molecule("ACE-CYS-NME", "amber14", kind, 1.1, 0.4, surface)
    parameters = extract(system)
    born = parameters.born
    assert parameters.unknown == ()
    assert born is not None
    assert (born.kind, born.cutoff, born.kappa) == (kind, 1.1, 0.4)
    assert (born.surface > 0) == (surface is not None)
    assert (born.neck is not None) == kind.startswith("gbn")
    assert bool((born.scaled_radii < 0).any()) == (kind == "gbn2")


def test_neck_tables_are_directional() -> None:
    born = extract(molecule("ACE-CYS-NME", "amber14", "gbn2")[0]).born
    assert born is not None
    assert born.neck is not None
    assert not np.allclose(born.neck.height, born.neck.height.T)


def test_altered_expressions_are_unknown() -> None:
    system = mm.XmlSerializer.clone(molecule("ACE-ALA-NME", "amber14", "obc2")[0])
    (force,) = (f for f in system.getForces() if isinstance(f, mm.CustomGBForce))
    name, expression, kind = force.getComputedValueParameters(1)
    force.setComputedValueParameters(1, name, expression.replace("4.85", "4.86"), kind)
    assert extract(system).unknown == (force.getName(),)


def test_what_is_not_translated_is_named() -> None:
    system, _ = molecule("ACE-ALA-NME")
    for change, name in (
        (lambda f: f.setNonbondedMethod(mm.NonbondedForce.PME), "NonbondedForce"),
        (lambda f: f.addGlobalParameter("s", 1.0) or f.addParticleParameterOffset("s", 0, 1, 0, 0), "NonbondedForce"),
    ):
        copy = mm.XmlSerializer.clone(system)
        (force,) = (f for f in copy.getForces() if isinstance(f, mm.NonbondedForce))
        change(force)
        assert extract(copy).unknown == (name,)
    copy = mm.XmlSerializer.clone(system)
    copy.addForce(mm.CMMotionRemover())
    copy.addConstraint(0, 1, 0.1)
    assert extract(copy).unknown == ()


def test_exceptions_and_dielectrics() -> None:
    parameters = extract(molecule("ACE-ALA-NME")[0])
    nonbonded, born = parameters.nonbonded, parameters.born
    assert nonbonded is not None
    assert born is not None
    assert nonbonded.cutoff is None
    assert len(nonbonded.exclusions) == 57
    assert len(nonbonded.exceptions) == 41
    assert (born.kind, born.solvent_dielectric, born.solute_dielectric) == ("gbsaobc", 78.3, 1.0)
    generated = extract(molecule("ACE-ALA-NME", "amber14", "obc2")[0]).born
    assert generated is not None
    assert generated.solvent_dielectric == 78.5


Kind = TypeVar("Kind")
CHARMM = ("ACE-PRO-HIS-NME", "charmm36", "obc2", 0.8)


def custom(system: mm.System, kind: type[Kind]) -> Kind:
    (force,) = (f for f in system.getForces() if isinstance(f, kind))
    return force


def test_charmm_is_translated() -> None:
    system, _ = molecule(*CHARMM)
    parameters = extract(system)
    nonbonded = parameters.nonbonded
    assert parameters.unknown == ()
    assert len(parameters.impropers) == custom(system, mm.CustomTorsionForce).getNumTorsions() > 5
    assert nonbonded is not None
    assert nonbonded.table is not None
    assert nonbonded.table.cutoff == 0.8
    # Coulomb and Lennard-Jones of 1-4 pairs come from two forces and share a row.
    assert len(nonbonded.exceptions) == custom(system, mm.CustomBondForce).getNumBonds()
    assert (nonbonded.exception_epsilon > 0).all()
    assert len(nonbonded.table.exclusions) == len(nonbonded.exclusions) + len(nonbonded.exceptions)


def _periodic(force: mm.CustomNonbondedForce) -> None:
    force.setNonbondedMethod(force.CutoffPeriodic)


def _switched(force: mm.CustomNonbondedForce) -> None:
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.7)


def _lopsided(force: mm.CustomNonbondedForce) -> None:
    columns, rows, values = force.getTabulatedFunction(0).getFunctionParameters()
    force.getTabulatedFunction(0).setFunctionParameters(columns, rows, [values[0], 2 * values[1] + 1, *values[2:]])


def _other_bond(force: mm.CustomBondForce) -> None:
    """A pair that Coulomb knows no exception of."""
    _, _, values = force.getBondParameters(0)
    force.addBond(0, 30, values)


CHANGES: dict[str, tuple[type, Callable]] = {
    "by type, expression": (mm.CustomNonbondedForce, lambda f: f.setEnergyFunction("2*" + f.getEnergyFunction())),
    "by type, periodic": (mm.CustomNonbondedForce, _periodic),
    "by type, switched": (mm.CustomNonbondedForce, _switched),
    "by type, groups": (mm.CustomNonbondedForce, lambda f: f.addInteractionGroup([0], [1])),
    "by type, not a type": (mm.CustomNonbondedForce, lambda f: f.setParticleParameters(0, [1e3])),
    "by type, asymmetric": (mm.CustomNonbondedForce, _lopsided),
    "pairs, expression": (mm.CustomBondForce, lambda f: f.setEnergyFunction(f.getEnergyFunction() + "+r")),
    "impropers, expression": (
        mm.CustomTorsionForce,
        lambda f: f.setEnergyFunction(f.getEnergyFunction().replace("^2", "^4")),
    ),
    "impropers, another pi": (
        mm.CustomTorsionForce,
        lambda f: f.setEnergyFunction(f.getEnergyFunction().replace("3.14159", "3.14")),
    ),
    "impropers, turns": (mm.CustomTorsionForce, lambda f: f.setTorsionParameters(0, 0, 1, 2, 3, [1.0, 7.0])),
    "impropers, global": (mm.CustomTorsionForce, lambda f: f.addGlobalParameter("s", 1.0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_altered_custom_forces_are_unknown(change: str) -> None:
    system = mm.XmlSerializer.clone(molecule(*CHARMM)[0])
    kind, alter = CHANGES[change]
    force = custom(system, kind)
    alter(force)
    assert extract(system).unknown == (force.getName(),)


@pytest.mark.parametrize(
    ("kind", "alter"),
    [
        (mm.CustomNonbondedForce, lambda f: f.setCutoffDistance(0.9)),
        (mm.CustomBondForce, _other_bond),
        (mm.CustomBondForce, lambda f: f.addBond(*f.getBondParameters(0))),
    ],
)
def test_pairs_under_two_rules_are_unknown(kind: type, alter: Callable) -> None:
    system = mm.XmlSerializer.clone(molecule(*CHARMM)[0])
    alter(custom(system, kind))
    assert extract(system).unknown == ("LennardJones", "LennardJones14")


def test_scaled_pairs() -> None:
    """A force field with half of the 1-4 terms has another number in the expression."""
    system = mm.XmlSerializer.clone(molecule(*CHARMM)[0])
    force = custom(system, mm.CustomBondForce)
    force.setEnergyFunction(force.getEnergyFunction().replace("4*", "2*"))
    parameters = extract(system)
    assert parameters.unknown == ()
    x = noisy(molecule(*CHARMM)[1], 3, 0.01)
    energy = TorchPotential(parameters).energy(torch.from_numpy(x))
    np.testing.assert_allclose(energy, oracle(system, x)[0], rtol=1e-10)


def test_custom_forces_need_a_coulomb_force() -> None:
    system = mm.XmlSerializer.clone(molecule(*CHARMM)[0])
    system.removeForce(next(i for i, f in enumerate(system.getForces()) if isinstance(f, mm.NonbondedForce)))
    assert extract(system).unknown == ("LennardJones", "LennardJones14")


def two_lists(cutoff: float | None, exception: tuple[int, int]) -> mm.System:
    """Eight atoms whose Coulomb and Lennard-Jones terms exclude different pairs; one Coulomb exception."""
    system = mm.System()
    coulomb = mm.NonbondedForce()
    by_type = mm.CustomNonbondedForce("acoef(type1, type2) / r^12 - bcoef(type1, type2)/r^6")
    by_type.addTabulatedFunction("acoef", mm.Discrete2DFunction(2, 2, [1e-6, 2e-6, 2e-6, 3e-6]))
    by_type.addTabulatedFunction("bcoef", mm.Discrete2DFunction(2, 2, [1e-3, 5e-3, 5e-3, 2e-3]))
    by_type.addPerParticleParameter("type")
    for atom in range(8):
        system.addParticle(12.0)
        coulomb.addParticle(0.3 * (-1) ** atom, 0.3, 0.2 * (atom == 3))
        by_type.addParticle([atom % 3 == 0])
    coulomb.addException(0, 1, 0.0, 1.0, 0.0)
    coulomb.addException(*exception, 0.4, 0.2, 0.1)
    for pair in ((2, 1), (5, 7)):
        by_type.addExclusion(*pair)
    if cutoff is not None:
        for force in (coulomb, by_type):
            force.setNonbondedMethod(force.CutoffNonPeriodic)
            force.setCutoffDistance(cutoff)
    system.addForce(by_type)
    system.addForce(coulomb)
    return system


@pytest.mark.parametrize(("cutoff", "exception"), [(None, (4, 2)), (None, (1, 2)), (0.6, (1, 2))])
def test_each_force_has_exclusions_of_its_own(cutoff: float | None, exception: tuple[int, int]) -> None:
    system = two_lists(cutoff, exception)
    x = noisy(np.zeros((8, 3)), 20, 0.3)
    assert extract(system).unknown == ()
    true_energy, true_force = oracle(system, x)
    for differentiable in (True, False):
        potential = TorchPotential(extract(system), differentiable=differentiable)
        np.testing.assert_allclose(potential.energy(torch.from_numpy(x)), true_energy, rtol=1e-9)
    force = potential.energy_and_force(torch.from_numpy(x))[1]
    np.testing.assert_allclose(force, true_force, rtol=1e-7, atol=1e-9 * np.abs(true_force).max())


def test_an_exception_that_is_cut_elsewhere_is_unknown() -> None:
    system = two_lists(0.6, (2, 4))
    assert extract(system).unknown == (system.getForce(0).getName(),)
