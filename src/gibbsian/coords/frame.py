"""A frame fixed to three atoms of the molecule: Cartesian coordinates without the pose, and their exact Jacobian.

Atoms 1, 2, 3 of the frame give ``e1 = (x2 - x1) / r12``, ``e3`` along ``e1 x (x3 - x1)`` and ``e2 = e3 x e1``. In that
frame ``x1 = 0``, ``x2 = (r12, 0, 0)``, ``x3 = (u, v, 0)`` with ``v > 0``, and

    d^{3n}x = d^3 x1 . 8 pi^2 dOmega . r12^2 v dr12 du dv . prod_{i >= 4} d^3 x_i

with ``dOmega`` normalised. The frame is right-handed, so a mirror image is another point: handedness is kept.
"""

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError

FRAME_NAMES = ("CA", "N", "C")
"""Bonded, at an angle near 110 degrees, each alone in its symmetry class."""

Frame = tuple[int, int, int]


def middle_frame(topology: Topology) -> Frame:
    """Atoms CA, N, C of the residue in the middle of the chain: short lever arms on both sides.

    Raises
    ------
    InputError
        If no residue has these atoms.
    """
    found = [[topology.find(residue, name) for name in FRAME_NAMES] for residue in range(topology.n_residues)]
    whole = [(ca, n, c) for ca, n, c in found if ca is not None and n is not None and c is not None]
    if not whole:
        raise InputError("body frame: no residue with atoms CA, N, C; name three bonded atoms in `frame`")
    return whole[len(whole) // 2]


def local_axes(x_a: Tensor, x_b: Tensor, x_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors (..., 3) of three points: along b to a, from there towards c, and perpendicular to both."""
    e1 = _unit(x_a - x_b)
    e3 = _unit(torch.linalg.cross(x_b - x_c, e1))
    return e1, torch.linalg.cross(e3, e1), e3


def to_frame(x: Tensor, frame: Frame) -> Tensor:
    """Turn and shift conformations `x` (B, n, 3) into the frame of three of their atoms."""
    first, second, third = frame
    origin = x[:, first]
    e1 = _unit(x[:, second] - origin)
    e3 = _unit(torch.linalg.cross(e1, x[:, third] - origin))
    e2 = torch.linalg.cross(e3, e1)
    return (x - origin[:, None]) @ torch.stack([e1, e2, e3], -1)


def log_frame_jacobian(body: Tensor, frame: Frame) -> Tensor:
    """Return the volume element ``2 log r12 + log v`` (B,), without pose, of conformations (B, n, 3) in their frame."""
    return 2.0 * torch.log(body[:, frame[1], 0]) + torch.log(body[:, frame[2], 1])


def frame_mask(n_atoms: int, frame: Frame) -> Tensor:
    """Which coordinates are free in the frame, (n_atoms, 3) bool: none, one and two of the three atoms, all else."""
    mask = torch.ones(n_atoms, 3, dtype=torch.bool)
    for atom, free in zip(frame, range(3), strict=True):
        mask[atom, free:] = False
    return mask


def _unit(v: Tensor) -> Tensor:
    return v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
