"""Atoms that a molecular graph cannot tell apart, one by one."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology


def atom_classes(topology: Topology) -> NDArray[np.int64]:
    """Class of each atom, (n_atoms,), numbered from 0 in the order of their first atoms.

    Atoms share a class if they are of one element and have the same neighbours (twins of the molecular graph): the
    hydrogens of CH2, CH3, NH2 and NH3+, the oxygens of a carboxylate. This is the coarsest partition in which *every*
    exchange within a class is a symmetry of the graph. Classes by symmetry alone would be coarser: both methyls of
    valine would share theirs, and a model that is blind within classes would give each methyl's hydrogens to the
    other carbon in 19 of 20 samples. Symmetries that move several atoms together are found by
    `gibbsian.chem.residues.symmetry_groups`.
    """
    numbers: dict[tuple[object, ...], int] = {}
    classes = []
    for atom, neighbours in enumerate(topology.neighbours):
        # An atom without bonds has no neighbour to share.
        key = (topology.elements[atom], neighbours) if neighbours else (atom,)
        classes.append(numbers.setdefault(key, len(numbers)))
    return np.array(classes, dtype=np.int64)


def twins_at(topology: Topology, centre: int, classes: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the first two neighbours of `centre` that share a class, or None."""
    neighbours = topology.neighbours[centre]
    for second in neighbours:
        others = [first for first in neighbours if first < second and classes[first] == classes[second]]
        if others:
            return others[0], second
    return None
