"""Coulomb and Lennard-Jones terms, gathered from the forces that share them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.custom_forces import LennardJonesPairs, LennardJonesTable

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Nonbonded:
    """Coulomb and Lennard-Jones terms.

    Attributes
    ----------
    charges, sigma, epsilon
        (n_atoms,) e, nm, kJ/mol; combined by Lorentz-Berthelot rules.
    exclusions
        (m, 2) pairs that do not interact, but for `table`.
    exceptions, exception_charges, exception_sigma, exception_epsilon
        (k, 2) pairs with their own charge product and Lennard-Jones parameters; never cut nor shifted.
    cutoff
        nm, or None.
    reaction_field_dielectric
        Used with a cutoff only; 1 in implicit solvent.
    table
        Lennard-Jones between types, added to everything above except for the exclusions of its own (CHARMM, whose
        per-atom `epsilon` are zero), or None. Its cutoff is `cutoff`, and with a cutoff it excludes all exceptions:
        no pair has two cutoffs.
    """

    charges: Floats
    sigma: Floats
    epsilon: Floats
    exclusions: Integers
    exceptions: Integers
    exception_charges: Floats
    exception_sigma: Floats
    exception_epsilon: Floats
    cutoff: float | None
    reaction_field_dielectric: float
    table: LennardJonesTable | None = None


def read_nonbonded(
    force: Any, table: LennardJonesTable | None = None, extra: Sequence[LennardJonesPairs] = ()
) -> Nonbonded | None:
    """Join an `openmm.NonbondedForce` with Lennard-Jones terms of other forces, or return None.

    None means settings that are not translated (periodic cutoffs, switching functions, offsets), or rules for one pair
    that no single row can hold: extra Lennard-Jones terms of a pair that has some, or a table cut where Coulomb is not.
    """
    method = force.getNonbondedMethod()
    if (
        method not in (force.NoCutoff, force.CutoffNonPeriodic)
        or force.getNumParticleParameterOffsets()
        or force.getNumExceptionParameterOffsets()
        or (method == force.CutoffNonPeriodic and force.getUseSwitchingFunction())
    ):
        return None
    cutoff = None if method == force.NoCutoff else float(plain(force.getCutoffDistance()))
    atoms = [[plain(v) for v in force.getParticleParameters(i)] for i in range(force.getNumParticles())]
    particles = np.array(atoms, dtype=np.float64).reshape(-1, 3)
    special = _special_pairs(force, extra)
    if special is None:
        return None
    pairs = np.array(list(special), dtype=np.int64).reshape(-1, 2)
    values = np.array(list(special.values()), dtype=np.float64).reshape(-1, 3)
    silent = (values[:, 0] == 0) & (values[:, 2] == 0)
    if table is not None and not _one_cutoff(table, cutoff, pairs[~silent]):
        return None
    return Nonbonded(
        charges=particles[:, 0].copy(),
        sigma=particles[:, 1].copy(),
        epsilon=particles[:, 2].copy(),
        exclusions=pairs[silent],
        exceptions=pairs[~silent],
        exception_charges=values[~silent, 0],
        exception_sigma=values[~silent, 1],
        exception_epsilon=values[~silent, 2],
        cutoff=cutoff,
        reaction_field_dielectric=float(force.getReactionFieldDielectric()),
        table=table,
    )


def plain(quantity: Any) -> Any:
    """Value in OpenMM's default units, which are ours."""
    return getattr(quantity, "_value", quantity)


Special = dict[tuple[int, int], tuple[float, float, float]]


def _special_pairs(force: Any, extra: Sequence[LennardJonesPairs]) -> Special | None:
    """Charge product, sigma and epsilon of the pairs that a force excepts, with the extra Lennard-Jones terms."""
    special: Special = {}
    for number in range(force.getNumExceptions()):
        i, j, *values = (plain(value) for value in force.getExceptionParameters(number))
        special[min(i, j), max(i, j)] = (values[0], values[1], values[2])
    for more in extra:
        for (i, j), sigma, epsilon in zip(more.atoms.tolist(), more.sigma.tolist(), more.epsilon.tolist(), strict=True):
            pair = (min(i, j), max(i, j))
            if pair not in special or special[pair][2]:
                return None
            special[pair] = (special[pair][0], sigma, epsilon)
    return special


def _one_cutoff(table: LennardJonesTable, cutoff: float | None, exceptions: Integers) -> bool:
    """Whether a table ends where Coulomb does, in every pair."""
    if table.cutoff != cutoff:
        return False
    excluded = {frozenset(pair) for pair in table.exclusions.tolist()}
    return cutoff is None or all(frozenset(pair) in excluded for pair in exceptions.tolist())
