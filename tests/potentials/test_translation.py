"""What of an OpenMM System is recognised."""

import numpy as np
import openmm as mm
import pytest
from molecules import molecule

from gibbsian.chem.parameters import extract


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
