"""From an OpenMM System to plain arrays, through OpenMM's getters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.born import Born, from_custom_gb, from_gbsa_obc

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Terms:
    """One kind of bonded term: (n, m) atom indices and (n, p) coefficients.

    The columns of `values` are: bonds length (nm) and k (kJ/mol/nm^2); angles theta0 (rad) and k
    (kJ/mol/rad^2); periodic torsions periodicity, phase (rad) and k (kJ/mol); Ryckaert-Bellemans torsions
    c0..c5 (kJ/mol).
    """

    atoms: Integers
    values: Floats

    def __len__(self) -> int:
        return len(self.atoms)


@dataclass(frozen=True, eq=False)
class Cmap:
    """Torsion-torsion correction maps.

    Attributes
    ----------
    maps
        One (size, size) grid each, kJ/mol; element [i, j] is at the angles 2 pi (i, j) / size.
    index
        (n,) map of each term.
    atoms
        (n, 8) atoms of the first and of the second torsion.
    """

    maps: tuple[Floats, ...]
    index: Integers
    atoms: Integers


@dataclass(frozen=True, eq=False)
class Nonbonded:
    """Coulomb and Lennard-Jones terms.

    Attributes
    ----------
    charges, sigma, epsilon
        (n_atoms,) e, nm, kJ/mol; combined by Lorentz-Berthelot rules.
    exclusions
        (m, 2) pairs that do not interact.
    exceptions, exception_charges, exception_sigma, exception_epsilon
        (k, 2) pairs with their own charge product and Lennard-Jones parameters; never cut nor shifted.
    cutoff
        nm, or None.
    reaction_field_dielectric
        Used with a cutoff only; 1 in implicit solvent.
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


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything that an energy function needs, as plain arrays (nm, rad, kJ/mol, e, dalton).

    Attributes
    ----------
    masses
        (n_atoms,) dalton.
    bonds, angles, torsions, rb_torsions, cmap
        Bonded terms; torsions are periodic ones, `rb_torsions` Ryckaert-Bellemans.
    nonbonded, born
        Pair terms and generalized Born solvent, or None.
    unknown
        Forces that are not translated, by name. Not empty: only OpenMM knows the energy.
    """

    masses: Floats
    bonds: Terms
    angles: Terms
    torsions: Terms
    rb_torsions: Terms
    cmap: Cmap | None = None
    nonbonded: Nonbonded | None = None
    born: Born | None = None
    unknown: tuple[str, ...] = field(default=())

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.masses)


def extract(system: Any) -> Parameters:
    """Translate an `openmm.System`.

    Constraints are no part of the energy and are ignored, like the removal of centre-of-mass motion. What
    cannot be translated (unknown force classes, periodic cut-offs, parameter offsets, virtual sites) is named
    in `unknown`.
    """
    import openmm as mm

    n = system.getNumParticles()
    masses = np.array([_plain(system.getParticleMass(i)) for i in range(n)], dtype=np.float64)
    rows: dict[str, list[tuple[Any, ...]]] = {"bonds": [], "angles": [], "torsions": [], "rb": []}
    readers: dict[type, tuple[str, int, Callable[[Any], list[tuple[Any, ...]]]]] = {
        mm.HarmonicBondForce: (
            "bonds",
            2,
            lambda f: [f.getBondParameters(i) for i in range(f.getNumBonds())],
        ),
        mm.HarmonicAngleForce: (
            "angles",
            3,
            lambda f: [f.getAngleParameters(i) for i in range(f.getNumAngles())],
        ),
        mm.PeriodicTorsionForce: ("torsions", 4, _torsion_rows),
        mm.RBTorsionForce: ("rb", 4, _torsion_rows),
    }
    unknown = ["virtual sites"] if any(system.isVirtualSite(i) for i in range(n)) else []
    cmaps: list[Any] = []
    nonbonded: Nonbonded | None = None
    born: Born | None = None
    for force in system.getForces():
        kind = type(force)
        known = True
        if kind is mm.CMMotionRemover:
            continue
        if force.usesPeriodicBoundaryConditions():
            known = False
        elif kind in readers:
            name, _, read = readers[kind]
            rows[name] += read(force)
        elif kind is mm.CMAPTorsionForce:
            cmaps.append(force)
        elif kind is mm.NonbondedForce and nonbonded is None:
            nonbonded = _nonbonded(force)
            known = nonbonded is not None
        elif kind is mm.GBSAOBCForce and born is None:
            born = from_gbsa_obc(force)
        elif isinstance(force, mm.CustomGBForce) and born is None:
            born = from_custom_gb(force)
            known = born is not None
        else:
            known = False
        if not known:
            unknown.append(force.getName())
    terms = {name: _terms(rows[name], m, p) for name, m, p in _SHAPES}
    return Parameters(
        masses=masses,
        bonds=terms["bonds"],
        angles=terms["angles"],
        torsions=terms["torsions"],
        rb_torsions=terms["rb"],
        cmap=_cmap(cmaps) if cmaps else None,
        nonbonded=nonbonded,
        born=born,
        unknown=tuple(unknown),
    )


_SHAPES = (("bonds", 2, 2), ("angles", 3, 2), ("torsions", 4, 3), ("rb", 4, 6))


def _plain(quantity: Any) -> Any:
    """Value in OpenMM's default units, which are ours."""
    return getattr(quantity, "_value", quantity)


def _torsion_rows(force: Any) -> list[tuple[Any, ...]]:
    return [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]


def _terms(rows: list[tuple[Any, ...]], m: int, p: int) -> Terms:
    plain = [[_plain(value) for value in row] for row in rows]
    return Terms(
        np.array([row[:m] for row in plain], dtype=np.int64).reshape(-1, m),
        np.array([row[m:] for row in plain], dtype=np.float64).reshape(-1, p),
    )


def _cmap(forces: list[Any]) -> Cmap:
    maps: list[Floats] = []
    index: list[int] = []
    atoms: list[list[int]] = []
    for force in forces:
        first = len(maps)
        for i in range(force.getNumMaps()):
            size, energy = force.getMapParameters(i)
            # OpenMM stores the first angle fastest; here it is the first index.
            maps.append(np.array(_plain(energy), dtype=np.float64).reshape(size, size).T.copy())
        for i in range(force.getNumTorsions()):
            number, *eight = force.getTorsionParameters(i)
            index.append(first + number)
            atoms.append(eight)
    return Cmap(tuple(maps), np.array(index, dtype=np.int64), np.array(atoms, dtype=np.int64).reshape(-1, 8))


def _nonbonded(force: Any) -> Nonbonded | None:
    method = force.getNonbondedMethod()
    if (
        method not in (force.NoCutoff, force.CutoffNonPeriodic)
        or force.getNumParticleParameterOffsets()
        or force.getNumExceptionParameterOffsets()
        or (method == force.CutoffNonPeriodic and force.getUseSwitchingFunction())
    ):
        return None
    atoms = [[_plain(v) for v in force.getParticleParameters(i)] for i in range(force.getNumParticles())]
    particles = np.array(atoms, dtype=np.float64).reshape(-1, 3)
    special = [[_plain(v) for v in force.getExceptionParameters(i)] for i in range(force.getNumExceptions())]
    pairs = np.array([row[:2] for row in special], dtype=np.int64).reshape(-1, 2)
    values = np.array([row[2:] for row in special], dtype=np.float64).reshape(-1, 3)
    silent = (values[:, 0] == 0) & (values[:, 2] == 0)
    return Nonbonded(
        charges=particles[:, 0].copy(),
        sigma=particles[:, 1].copy(),
        epsilon=particles[:, 2].copy(),
        exclusions=pairs[silent],
        exceptions=pairs[~silent],
        exception_charges=values[~silent, 0],
        exception_sigma=values[~silent, 1],
        exception_epsilon=values[~silent, 2],
        cutoff=None if method == force.NoCutoff else float(_plain(force.getCutoffDistance())),
        reaction_field_dielectric=float(force.getReactionFieldDielectric()),
    )
