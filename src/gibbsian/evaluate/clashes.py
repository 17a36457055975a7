"""Overlapping atoms: heavy ones more than three bonds apart that are closer than any contact."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.atoms import Selection, select

CLASH = 0.22
"""nm; hydrogen bonds between heavy atoms begin at about 0.25 nm."""
_BONDS = 3
_CELLS = 4_000_000
"""Distances held at once."""


def far_pairs(topology: Topology, atoms: Selection = "heavy") -> NDArray[np.int64]:
    """Pairs (p, 2) of the selected atoms that are more than three bonds apart."""
    chosen = select(topology, atoms).tolist()
    near: set[tuple[int, int]] = set()
    for i in chosen:
        reached = {i}
        for _ in range(_BONDS):
            reached |= {k for j in reached for k in topology.neighbours[j]}
        near |= {(i, j) for j in reached}
    return np.array([pair for pair in combinations(chosen, 2) if pair not in near], dtype=np.int64).reshape(-1, 2)


def clashes(x: Tensor, pairs: Tensor) -> Tensor:
    """Return how many of `pairs` (p, 2) are closer than 0.22 nm in each of `x` (B, n_atoms, 3) nm: (B,)."""
    found = []
    for part in x.split(max(1, _CELLS // max(1, len(pairs)))):
        squares = (part[:, pairs[:, 0]] - part[:, pairs[:, 1]]).square().sum(-1)
        found.append((squares < CLASH**2).sum(-1))
    return torch.cat(found)


def clash_share(topology: Topology, positions: NDArray[np.floating], atoms: Selection = "heavy") -> float:
    """Return the share of conformations (n, n_atoms, 3) nm with a clash between the selected atoms."""
    pairs = torch.from_numpy(far_pairs(topology, atoms))
    return float((clashes(torch.from_numpy(np.asarray(positions)), pairs) > 0).double().mean())
