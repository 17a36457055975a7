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


def alpha_carbons(topology: Topology) -> NDArray[np.int64]:
    """Return the indices of the alpha carbons, ascending; of a molecule without any, none."""
    pairs = zip(topology.atom_names, topology.elements, strict=True)
    return np.array([i for i, pair in enumerate(pairs) if pair == ("CA", "C")], dtype=np.int64)


def has_fold(topology: Topology) -> bool:
    """Tell whether there are at least four alpha carbons: fewer have hardly a shape of their own."""
    return len(alpha_carbons(topology)) > 3


def shape_atoms(topology: Topology) -> NDArray[np.int64]:
    """Return the alpha carbons, or N, CA and C of every residue where there are fewer than four of them."""
    return alpha_carbons(topology) if has_fold(topology) else select(topology, "backbone")
