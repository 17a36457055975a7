"""The gauge without a pose: coordinates in a frame fixed to three atoms, standardised for a flow."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import Frame, frame_mask, log_frame_jacobian, middle_frame, to_frame
from gibbsian.coords.gauge import centred
from gibbsian.coords.internal import mean_free_constant
from gibbsian.errors import InputError

LEAST_HEIGHT = 0.05
"""nm that the third atom of a frame must keep from the line through the other two."""


@dataclass(frozen=True, eq=False)
class FrameGauge:
    """The 3n - 6 coordinates in a frame of three atoms: the density does not depend on the pose at all.

    ``log r12`` and ``log v`` in place of the two positive coordinates, each standardised alone; other coordinates are
    centred atom by atom and share one scale. See `gibbsian.coords.frame` for the Jacobian.

    Attributes
    ----------
    frame
        Atoms 1, 2, 3.
    centre
        (n, 3) what is subtracted: means of ``log r12``, ``u`` and ``log v`` in their places, of positions in nm else.
    scale
        (n, 3) what it is divided by; one where there is no coordinate.
    """

    frame: Frame
    centre: Tensor
    scale: Tensor

    @classmethod
    def from_data(cls, topology: Topology, x: Tensor, weights: Tensor, frame: Frame | None = None) -> Self:
        """Take means and spreads of weighted conformations (m, n, 3) nm; the frame is CA, N, C in the middle.

        Raises
        ------
        InputError
            If the frame's atoms are unusable: not three of the molecule, or near a line in some conformation.
        """
        frame = middle_frame(topology) if frame is None else frame
        if len(set(frame)) != 3 or not all(0 <= atom < topology.n_atoms for atom in frame):
            raise InputError(f"body frame: atoms {list(frame)}; name three different ones of {topology.n_atoms}")
        body = to_frame(x.double(), frame)
        height = float(body[:, frame[2], 1].min())
        if not height > LEAST_HEIGHT:
            raise InputError(
                f"body frame: atoms {list(frame)} come within {height:.3f} nm of a line; "
                "name three at an angle in `frame`"
            )
        mask = frame_mask(topology.n_atoms, frame)
        logs = _with_logs(body, frame)
        centre = torch.where(mask, torch.einsum("b,bnd->nd", weights, logs), 0.0)
        square = torch.einsum("b,bnd->nd", weights, (logs - centre).square())
        others = mask.clone()
        others[list(frame)] = False
        own = square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
        shared = square[others].mean().sqrt() if bool(others.any()) else own.new_ones(())
        return cls(frame, centre, torch.where(others, shared, torch.where(mask, own, 1.0)))

    @property
    def mask(self) -> Tensor:
        """Coordinates that are free in the frame."""
        return frame_mask(len(self.centre), self.frame)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn into the frame, take logarithms of the positive coordinates, standardise."""
        body = to_frame(x, self.frame)
        # Absent coordinates are zero but for rounding, which must not reach the flow.
        tokens = (_with_logs(body, self.frame) - self.centre.to(x)) / self.scale.to(x) * self.mask.to(x)
        return tokens, -self._log_volume(body)

    def inverse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations with their centre at the origin, oriented by the frame."""
        body = tokens * self.scale.to(tokens) + self.centre.to(tokens)
        body = torch.where(_positive(self.mask, self.frame).to(tokens.device), torch.exp(body), body)
        return centred(body), self._log_volume(body)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Nothing to move."""
        return x

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the frame, the means and the scales."""
        return {"frame": torch.tensor(self.frame), "centre": self.centre, "scale": self.scale}

    def _log_volume(self, body: Tensor) -> Tensor:
        """``log |d(shape) / d tokens|``, with ``dr = r d log r`` and ``dv = v d log v`` beside the frame's own."""
        logs = torch.log(body[:, self.frame[1], 0]) + torch.log(body[:, self.frame[2], 1])
        constant = self.scale.log().sum().to(body) + mean_free_constant(len(self.centre))
        return log_frame_jacobian(body, self.frame) + logs + constant


def _positive(mask: Tensor, frame: Frame) -> Tensor:
    """Where ``r12`` and ``v`` are, (n, 3) bool."""
    positive = torch.zeros_like(mask)
    positive[frame[1], 0] = positive[frame[2], 1] = True
    return positive


def _with_logs(body: Tensor, frame: Frame) -> Tensor:
    positive = _positive(torch.ones(body.shape[1:], dtype=torch.bool), frame).to(body.device)
    # The inner `where` keeps the logarithm's gradient finite where it is not used.
    return torch.where(positive, torch.log(torch.where(positive, body, 1.0)), body)
