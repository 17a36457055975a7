"""CHARMM's terms among OpenMM's custom forces, recognised by the text of their energies.

Expressions are those that `openmm.app.ForceField` makes of a ``LennardJonesForce`` and of CHARMM36's impropers. Each
reader returns None for anything else, so that no force is ever translated by its name alone.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TABLE = "acoef(type1,type2)/r^12-bcoef(type1,type2)/r^6"
_PAIR = re.compile(r"([0-9.e+-]+)\*epsilon\*\(\(sigma/r\)\^12-\(sigma/r\)\^6\)")
_IMPROPER = re.compile(r"k\*min\(dtheta,2\*pi-dtheta\)\^2;dtheta=abs\(theta-theta0\);pi=([0-9.]+)")


@dataclass(frozen=True, eq=False)
class LennardJonesTable:
    """Lennard-Jones by pairs of types, E = a/r^12 - b/r^6, where combination rules have exceptions (NBFIX).

    Attributes
    ----------
    types
        (n_atoms,) row of each atom in the tables.
    a, b
        (n_types, n_types) symmetric, kJ/mol nm^12 and kJ/mol nm^6.
    exclusions
        (m, 2) pairs without this term; those of the Coulomb term are a list of their own.
    cutoff
        nm, or None; neither shifted nor corrected beyond it.
    """

    types: Integers
    a: Floats
    b: Floats
    exclusions: Integers
    cutoff: float | None


@dataclass(frozen=True, eq=False)
class LennardJonesPairs:
    """Lennard-Jones 4 epsilon ((sigma/r)^12 - (sigma/r)^6) of single pairs, (m, 2) atoms, (m,) nm and kJ/mol."""

    atoms: Integers
    sigma: Floats
    epsilon: Floats


def read_table(force: Any) -> LennardJonesTable | None:
    """Read an `openmm.CustomNonbondedForce` between types of atoms."""
    method = force.getNonbondedMethod()
    names = [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())]
    extra = (
        force.getNumGlobalParameters(),
        force.getNumComputedValues(),
        force.getNumInteractionGroups(),
        method == force.CutoffNonPeriodic and force.getUseSwitchingFunction(),
    )
    if (
        _expression(force) != _TABLE
        or names != ["type"]
        or any(extra)
        or method not in (force.NoCutoff, force.CutoffNonPeriodic)
    ):
        return None
    tables = _tables(force)
    types = np.array([force.getParticleParameters(i)[0] for i in range(force.getNumParticles())], dtype=np.float64)
    if tables is None or not np.isin(types, np.arange(len(tables[0]))).all():
        return None
    pairs = [force.getExclusionParticles(i) for i in range(force.getNumExclusions())]
    return LennardJonesTable(
        types=types.astype(np.int64),
        a=tables[0],
        b=tables[1],
        exclusions=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        cutoff=None if method == force.NoCutoff else float(force.getCutoffDistance()._value),
    )


def read_pairs(force: Any) -> LennardJonesPairs | None:
    """Read an `openmm.CustomBondForce` that is a Lennard-Jones energy."""
    found = _PAIR.fullmatch(_expression(force))
    names = [force.getPerBondParameterName(i) for i in range(force.getNumPerBondParameters())]
    if found is None or sorted(names) != ["epsilon", "sigma"] or force.getNumGlobalParameters():
        return None
    rows = [force.getBondParameters(i) for i in range(force.getNumBonds())]
    values = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 2)
    return LennardJonesPairs(
        atoms=np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2),
        sigma=values[:, names.index("sigma")],
        epsilon=values[:, names.index("epsilon")] * (float(found[1]) / 4),
    )


def read_impropers(force: Any) -> list[tuple[int | float, ...]] | None:
    """Rows (four atoms, theta0, k) of an `openmm.CustomTorsionForce` with energy k times a wrapped angle squared."""
    found = _IMPROPER.fullmatch(_expression(force))
    names = [force.getPerTorsionParameterName(i) for i in range(force.getNumPerTorsionParameters())]
    if found is None or sorted(names) != ["k", "theta0"] or force.getNumGlobalParameters():
        return None
    rows = []
    for i in range(force.getNumTorsions()):
        *atoms, values = force.getTorsionParameters(i)
        rows.append((*atoms, values[names.index("theta0")], values[names.index("k")]))
    # The expression finds the nearer way around for angles up to one turn only.
    right = abs(float(found[1]) - np.pi) < 1e-9 and all(abs(row[4]) <= 2 * np.pi for row in rows)
    return rows if right else None


def _expression(force: Any) -> str:
    """Return the energy without spaces and a last semicolon."""
    return re.sub(r"\s+", "", force.getEnergyFunction()).removesuffix(";")


def _tables(force: Any) -> tuple[Floats, Floats] | None:
    """Return the functions acoef and bcoef of a force as arrays, if it has just these and they are symmetric."""
    import openmm as mm

    tables = {}
    for i in range(force.getNumTabulatedFunctions()):
        function = force.getTabulatedFunction(i)
        if not isinstance(function, mm.Discrete2DFunction):
            return None
        columns, rows, values = function.getFunctionParameters()
        tables[force.getTabulatedFunctionName(i)] = np.array(values, dtype=np.float64).reshape(rows, columns)
    if sorted(tables) != ["acoef", "bcoef"]:
        return None
    a, b = tables["acoef"], tables["bcoef"]
    return (a, b) if a.shape == b.shape and np.array_equal(a, a.T) and np.array_equal(b, b.T) else None
