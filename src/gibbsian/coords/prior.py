"""Conformations before any energy is known: every torsion free, everything stiff near one structure."""

import math

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import Internal, InternalCoordinates
from gibbsian.units import kt

BOND_STIFFNESS, ANGLE_STIFFNESS, DELTA_STIFFNESS = 3e5, 400.0, 300.0
"""kJ/mol/nm^2, kJ/mol/rad^2 (twice): typical of force fields, for bonds, angles, and azimuths beside a sibling."""


def draw_prior(topology: Topology, positions: Tensor, temperature: float, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` conformations (n, n_atoms, 3) nm, centred, float64.

    Proper torsions are uniform on the circle; bonds, angles and narrow torsions are normal about those of `positions`
    (n_atoms, 3) nm with the thermal width of a typical force field at `temperature` (K).
    """
    coordinates = InternalCoordinates(topology)
    (bonds, angles, torsions), _ = coordinates.forward(positions.double()[None])
    free = torch.tensor([kind == "proper" for kind in coordinates.zmatrix.kinds])

    def near(centre: Tensor, stiffness: float) -> Tensor:
        noise = torch.randn(n, centre.shape[1], generator=generator, dtype=torch.float64)
        return centre + math.sqrt(kt(temperature) / stiffness) * noise

    turns = torch.rand(n, len(free), generator=generator, dtype=torch.float64)
    y = Internal(
        near(bonds, BOND_STIFFNESS),
        near(angles, ANGLE_STIFFNESS).clamp(0.01, math.pi - 0.01),
        torch.where(free, math.pi * (1.0 - 2.0 * turns), near(torsions, DELTA_STIFFNESS)),
    )
    x, _ = coordinates.inverse(y)
    return x - x.mean(1, keepdim=True)
