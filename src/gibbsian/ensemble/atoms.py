"""Which atoms stand for the shape of a chain: alpha carbons, the backbone, everything but hydrogen."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError

Selection = Literal["ca", "backbone", "heavy"]

_NAMES = {"ca": ("CA",), "backbone": ("N", "CA", "C")}


def select(topology: Topology, atoms: Selection) -> NDArray[np.int64]:
    """Return the indices, ascending, of the alpha carbons, of N, CA and C of every residue, or of all heavy atoms.

    Raises
    ------
    InputError
        If the selection is unknown or the molecule has no such atom.
    """
    if atoms not in get_args(Selection):
        raise InputError(f"atoms: {atoms!r} is unknown; choose one of {', '.join(get_args(Selection))}")
    pairs = list(zip(topology.atom_names, topology.elements, strict=True))
    if atoms == "heavy":
        found = [i for i, (_, element) in enumerate(pairs) if element != "H"]
    else:
        found = [i for i, (name, element) in enumerate(pairs) if name in _NAMES[atoms] and element in ("N", "C")]
    if not found:
        raise InputError(f"atoms: the molecule has no {atoms} atoms; choose another selection")
    return np.array(found, dtype=np.int64)


def shape_atoms(topology: Topology) -> NDArray[np.int64]:
    """Return the alpha carbons, or N, CA and C of every residue where there are fewer than four of them."""
    carbons = [i for i, name in enumerate(topology.atom_names) if name == "CA" and topology.elements[i] == "C"]
    return select(topology, "ca" if len(carbons) > 3 else "backbone")
