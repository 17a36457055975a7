"""Small molecules for tests of equivariant flows, and conformations of them."""

import math

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toys import HarmonicMolecule
from gibbsian.units import kt

TEMPERATURE = 300.0


def molecule(elements: str, bonds: list[tuple[int, int]]) -> Topology:
    """A molecule of one residue; elements are given by one letter each."""
    return Topology(
        atom_names=tuple(f"{element}{i}" for i, element in enumerate(elements)),
        elements=tuple(elements),
        residue_index=np.zeros(len(elements), dtype=np.int64),
        residue_names=("TOY",),
        residue_ids=("1",),
        bonds=np.array(sorted(bonds), dtype=np.int64).reshape(-1, 2),
    )


STAR = [(0, 1), (0, 2), (0, 3), (0, 4)]
MOLECULES = {
    "water": (molecule("OHH", [(0, 1), (0, 2)]), 1),
    "stereocentre": (molecule("CHNOF", STAR), 2),
    "methyl": (molecule("CFHHH", STAR), 2),
    "methylene": (molecule("CFOHH", STAR), 2),
    "both": (molecule("CHNOCHHH", [*STAR, (4, 5), (4, 6), (4, 7)]), 4),
}
"""With the number of mirror images and relabellings that one handedness leaves out."""


def springs(topology: Topology) -> Boltzmann:
    """Springs between all atoms: blind to mirror images and to every exchange."""
    return Boltzmann(HarmonicMolecule(topology.n_atoms), TEMPERATURE)


def width_of(topology: Topology) -> float:
    """Standard deviation of a coordinate under the springs, nm."""
    k = HarmonicMolecule(topology.n_atoms)
    return math.sqrt(kt(TEMPERATURE) / (k.k * k.n_atoms))


def spread_out(topology: Topology, n: int, seed: int = 0) -> Tensor:
    """Samples (n, n_atoms, 3) of the springs, of either hand."""
    noise = torch.randn(n, topology.n_atoms, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return width_of(topology) * (noise - noise.mean(1, keepdim=True))
