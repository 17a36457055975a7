"""Cartesian coordinates of each atom in a frame of the atoms that it hangs on.

The first three atoms of the Z-matrix stand in their own body frame. Every other atom is a vector from the atom a that
it is bonded to, along the axes that a, b and c of its row define. Turning a vector changes no volume, so the Jacobian
is that of the body frame alone; and unlike a body coordinate, a vector does not move when the chain turns before it.
"""

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import Frame, local_axes, to_frame
from gibbsian.coords.zmatrix import build_zmatrix


class LocalCoordinates:
    """Body coordinates of the first three atoms and local vectors of the others, both ways.

    Parameters
    ----------
    topology
        Connected molecule; the Z-matrix is built from its bonds and names.

    Attributes
    ----------
    atoms
        (n,) atoms in the order in which they are placed.
    frame
        The three atoms of the body frame, in the order of `to_frame`.
    """

    def __init__(self, topology: Topology) -> None:
        zmatrix = build_zmatrix(topology)
        self.atoms = torch.from_numpy(zmatrix.atoms)
        first, second, third = (int(atom) for atom in zmatrix.atoms[:3])
        self.frame: Frame = (second, first, third)
        self._references = torch.from_numpy(zmatrix.references)
        self._stages = [torch.from_numpy(np.asarray(rows)) for rows in zmatrix.stages()]

    def forward(self, x: Tensor) -> Tensor:
        """Local vectors (B, n, 3) nm, by atom, of `x` (B, n, 3) nm; the frame's atoms keep their body coordinates."""
        body = to_frame(x, self.frame)
        a, b, c = self._references[3:].unbind(1)
        placed = self.atoms[3:]
        axes = torch.stack(local_axes(body[:, a], body[:, b], body[:, c]), -1)
        vectors = (axes * (body[:, placed] - body[:, a])[..., None]).sum(-2)
        return body.index_copy(1, placed.to(body.device), vectors)

    def inverse(self, local: Tensor) -> Tensor:
        """Body coordinates (B, n, 3) nm of local vectors."""
        body = local
        for rows in self._stages:
            a, b, c = self._references[rows].unbind(1)
            placed = self.atoms[rows]
            axes = torch.stack(local_axes(body[:, a], body[:, b], body[:, c]), -1)
            position = body[:, a] + (axes * local[:, placed, None, :]).sum(-1)
            body = body.index_copy(1, placed.to(body.device), position)
        return body
