"""Where hydrogens go, and which of two equivalent ones carries which label."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.residues import hydrogens_of
from gibbsian.chem.topology import Topology

Floats = NDArray[np.float64]
Real = TypeVar("Real", bound=np.floating)

_LENGTH = {"C": 0.109, "N": 0.101, "O": 0.096, "S": 0.134}  # nm
_TETRAHEDRAL = np.radians(109.47)


def place_hydrogens(topology: Topology, positions: Floats, atoms: list[int]) -> Floats:
    """Put hydrogens at ideal geometry: staggered, planar where the parent is planar.

    Parameters
    ----------
    topology
        With all hydrogens.
    positions
        (n_atoms, 3) nm; heavy atoms must be right, the given hydrogens are overwritten.
    atoms
        Hydrogens to place. A parent with one of them gets all its hydrogens anew.

    Returns
    -------
    (n_atoms, 3) nm. A function of the heavy atoms alone, bit for bit, labelled by `relabel_hydrogens`.
    """
    x = np.array(positions, dtype=np.float64)
    for parent in sorted({topology.neighbours[i][0] for i in atoms}):
        hydrogens = hydrogens_of(topology, parent)
        directions = _directions(topology, x, parent, len(hydrogens))
        length = _LENGTH.get(topology.elements[parent], 0.109)
        x[hydrogens] = x[parent] + length * directions
    return relabel_hydrogens(topology, x)


def _directions(topology: Topology, x: Floats, parent: int, count: int) -> Floats:
    heavy = [n for n in topology.neighbours[parent] if topology.elements[n] != "H"]
    units = [_unit(x[n] - x[parent]) for n in heavy]
    if len(heavy) >= 2 and count == 1:
        return -_unit(np.sum(units, axis=0))[None]
    if len(heavy) == 2:
        bisector, normal = -_unit(units[0] + units[1]), _unit(np.cross(units[0], units[1]))
        half = 0.5 * _TETRAHEDRAL
        return np.stack([np.cos(half) * bisector + sign * np.sin(half) * normal for sign in (1, -1)])
    if len(heavy) != 1:
        raise ValueError(f"atom {parent} has {len(heavy)} heavy neighbours and {count} hydrogens")
    neighbour = heavy[0]
    others = [n for n in topology.neighbours[neighbour] if n != parent and topology.elements[n] != "H"]
    planar = count == 2 and _is_planar(topology, neighbour)
    torsions = {1: [180.0], 2: [0.0, 180.0] if planar else [60.0, -60.0], 3: [180.0, -60.0, 60.0]}[count]
    angle = 2.0 * np.pi / 3.0 if planar else np.radians(96.0) if topology.elements[parent] == "S" else _TETRAHEDRAL
    reference = x[min(others)] if others else x[neighbour] + np.array([0.0, 0.0, 1.0])
    return np.stack(
        [place(x[parent], x[neighbour], reference, 1.0, angle, np.radians(t)) - x[parent] for t in torsions]
    )


def place(a: Floats, b: Floats, c: Floats, bond: float, angle: float, torsion: float) -> Floats:
    """Point at distance `bond` of a, with angle (point, a, b) and torsion (point, a, b, c); rad, nm."""
    e1 = _unit(a - b)
    e3 = _unit(np.cross(b - c, e1))
    e2 = np.cross(e3, e1)
    return a + bond * (
        -np.cos(angle) * e1 + np.sin(angle) * np.cos(torsion) * e2 + np.sin(angle) * np.sin(torsion) * e3
    )


def _unit(v: Floats) -> Floats:
    return v / np.linalg.norm(v)


def _is_planar(topology: Topology, atom: int) -> bool:
    return topology.elements[atom] == "C" and len(topology.neighbours[atom]) == 3


def relabel_hydrogens(topology: Topology, positions: NDArray[Real]) -> NDArray[Real]:
    """Give equivalent hydrogens their canonical labels, conformation by conformation.

    The one rule of the package, with bond vectors from the parent p, and hydrogens in the topology's order:

    * three hydrogens (CH3, NH3+): (h1 x h2) . h3 > 0;
    * two on a tetrahedral atom with heavy neighbours a (nearer the main chain) and b: (a x b) . h1 < 0, which makes HA2
      of glycine pro-R; with one heavy neighbour a (neutral lysine): (a x h1) . (reference) as below;
    * two on a planar nitrogen (Asn, Gln, Arg, NH2): h1 is cis to the atom nearer the main chain.

    A wrong pair is swapped; no atom moves otherwise. Applying it twice changes nothing.

    Parameters
    ----------
    positions
        (..., n_atoms, 3), any unit.

    Returns
    -------
    Same shape and type, a copy.
    """
    x = np.array(positions)
    for first, second, good in _pairs(topology, x):
        a, b = x[..., first, :].copy(), x[..., second, :].copy()
        keep = good[..., None]
        x[..., first, :] = np.where(keep, a, b)
        x[..., second, :] = np.where(keep, b, a)
    return x


def _pairs(topology: Topology, x: NDArray[np.floating]):
    """Yield (hydrogen, hydrogen, whether labelled right) for every group; groups share no atoms."""
    for parent in range(topology.n_atoms):
        hydrogens = hydrogens_of(topology, parent) if topology.elements[parent] != "H" else []
        if len(hydrogens) < 2:
            continue
        vectors = {n: x[..., n, :] - x[..., parent, :] for n in topology.neighbours[parent]}
        heavy = sorted((n for n in vectors if n not in hydrogens), key=lambda n: (_remoteness(topology, n), n))
        h1, h2 = hydrogens[0], hydrogens[1]
        if len(hydrogens) == 3:
            yield h2, hydrogens[2], _triple(vectors[h1], vectors[h2], vectors[hydrogens[2]]) > 0
        elif len(heavy) == 2:
            yield h1, h2, _triple(vectors[heavy[0]], vectors[heavy[1]], vectors[h1]) < 0
        elif len(heavy) == 1:
            others = [n for n in topology.neighbours[heavy[0]] if n != parent and topology.elements[n] != "H"]
            if not others:
                continue
            inner = min(others, key=lambda n: (_remoteness(topology, n), n))
            towards = x[..., inner, :] - x[..., heavy[0], :]
            if _is_planar(topology, heavy[0]):
                yield h1, h2, ((vectors[h1] - vectors[h2]) * towards).sum(-1) > 0
            else:
                yield h1, h2, _triple(vectors[heavy[0]], vectors[h1], vectors[h2]) > 0


_GREEK = {letter: rank for rank, letter in enumerate("ABGDEZH")}


def _remoteness(topology: Topology, atom: int) -> int:
    """Rank by the Greek letter of the atom's name, CA first; N, C and O of the main chain come last."""
    name = topology.atom_names[atom]
    return _GREEK.get(name[1], 9) if len(name) > 1 and topology.elements[atom] != "H" else 9


def _triple(a: NDArray[np.floating], b: NDArray[np.floating], c: NDArray[np.floating]) -> NDArray[np.floating]:
    return (np.cross(a, b) * c).sum(-1)
