"""From an OpenMM System to plain arrays, through OpenMM's getters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.born import Born, from_custom_gb, from_gbsa_obc
from gibbsian.chem.custom_forces import read_impropers, read_pairs, read_table
from gibbsian.chem.nonbonded import Nonbonded, plain, read_nonbonded

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Terms:
    """One kind of bonded term: (n, m) atom indices and (n, p) coefficients.

    The columns of `values` are: bonds length (nm) and k (kJ/mol/nm^2); angles theta0 (rad) and k
    (kJ/mol/rad^2); periodic torsions periodicity, phase (rad) and k (kJ/mol); Ryckaert-Bellemans torsions
    c0..c5 (kJ/mol); impropers theta0 (rad) and k (kJ/mol/rad^2) of k d^2, where d is theta - theta0 wrapped into
    [-pi, pi] (there is no factor 1/2).
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


def _no_impropers() -> Terms:
    return Terms(np.zeros((0, 4), dtype=np.int64), np.zeros((0, 2)))


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
    impropers
        Harmonic impropers (CHARMM).
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
    impropers: Terms = field(default_factory=_no_impropers)
    unknown: tuple[str, ...] = field(default=())

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.masses)


def extract(system: Any) -> Parameters:
    """Translate an `openmm.System`.

    Constraints are no part of the energy and are ignored, like the removal of centre-of-mass motion. What
    cannot be translated (unknown force classes and expressions, periodic cut-offs, parameter offsets, virtual sites)
    is named in `unknown`.
    """
    n = system.getNumParticles()
    masses = np.array([plain(system.getParticleMass(i)) for i in range(n)], dtype=np.float64)
    unknown = ["virtual sites"] if any(system.isVirtualSite(i) for i in range(n)) else []
    found, missed = _read_forces(system)
    nonbonded, apart = _join(found)
    terms = {name: _terms(_values(found, name), m, p) for name, m, p in _SHAPES}
    cmaps, born = _values(found, "cmap"), _values(found, "born")
    return Parameters(
        masses=masses,
        bonds=terms["bonds"],
        angles=terms["angles"],
        torsions=terms["torsions"],
        rb_torsions=terms["rb"],
        cmap=_cmap(cmaps) if cmaps else None,
        nonbonded=nonbonded,
        born=born[0] if born else None,
        impropers=terms["impropers"],
        unknown=(*unknown, *missed, *apart),
    )


_SHAPES = (("bonds", 2, 2), ("angles", 3, 2), ("torsions", 4, 3), ("rb", 4, 6), ("impropers", 4, 2))
_SINGLE = ("nonbonded", "table", "born")

Found = dict[str, list[tuple[str, Any]]]
"""What was read, by kind: the name of a force and its contents."""


def _read_forces(system: Any) -> tuple[Found, list[str]]:
    """Read each force by itself; also return the names of those that are not translated."""
    import openmm as mm

    readers: dict[type, tuple[str, Callable[[Any], Any]]] = {
        mm.HarmonicBondForce: ("bonds", lambda f: [f.getBondParameters(i) for i in range(f.getNumBonds())]),
        mm.HarmonicAngleForce: ("angles", lambda f: [f.getAngleParameters(i) for i in range(f.getNumAngles())]),
        mm.PeriodicTorsionForce: ("torsions", _torsion_rows),
        mm.RBTorsionForce: ("rb", _torsion_rows),
        mm.CustomTorsionForce: ("impropers", read_impropers),
        mm.CMAPTorsionForce: ("cmap", lambda f: [f]),
        mm.NonbondedForce: ("nonbonded", lambda f: [f]),
        mm.CustomNonbondedForce: ("table", lambda f: _maybe(read_table(f))),
        mm.CustomBondForce: ("pairs", lambda f: _maybe(read_pairs(f))),
        mm.GBSAOBCForce: ("born", lambda f: [from_gbsa_obc(f)]),
        mm.CustomGBForce: ("born", lambda f: _maybe(from_custom_gb(f))),
    }
    found: Found = {name: [] for name, _ in readers.values()}
    missed: list[str] = []
    for force in system.getForces():
        if isinstance(force, mm.CMMotionRemover):
            continue
        name, read = readers.get(type(force), ("", lambda _: None))
        again = name in _SINGLE and bool(found[name])
        values = None if force.usesPeriodicBoundaryConditions() or again else read(force)
        if values is None:
            missed.append(force.getName())
        else:
            found[name] += [(force.getName(), value) for value in values]
    return found, missed


def _join(found: Found) -> tuple[Nonbonded | None, list[str]]:
    """Join the forces between pairs; also return the names of those that cannot be."""
    custom = [name for kind in ("table", "pairs") for name, _ in found[kind]]
    if not found["nonbonded"]:
        return None, custom
    ((name, force),) = found["nonbonded"]
    table = _values(found, "table")
    joined = read_nonbonded(force, table[0] if table else None, _values(found, "pairs"))
    if joined is not None:
        return joined, []
    alone = read_nonbonded(force)
    return alone, custom if alone else [name, *custom]


def _values(found: Found, kind: str) -> list[Any]:
    return [value for _, value in found[kind]]


def _maybe(value: Any) -> list[Any] | None:
    return None if value is None else [value]


def _torsion_rows(force: Any) -> list[tuple[Any, ...]]:
    return [force.getTorsionParameters(i) for i in range(force.getNumTorsions())]


def _terms(rows: list[tuple[Any, ...]], m: int, p: int) -> Terms:
    values = [[plain(value) for value in row] for row in rows]
    return Terms(
        np.array([row[:m] for row in values], dtype=np.int64).reshape(-1, m),
        np.array([row[m:] for row in values], dtype=np.float64).reshape(-1, p),
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
            maps.append(np.array(plain(energy), dtype=np.float64).reshape(size, size).T.copy())
        for i in range(force.getNumTorsions()):
            number, *eight = force.getTorsionParameters(i)
            index.append(first + number)
            atoms.append(eight)
    return Cmap(tuple(maps), np.array(index, dtype=np.int64), np.array(atoms, dtype=np.int64).reshape(-1, 8))
