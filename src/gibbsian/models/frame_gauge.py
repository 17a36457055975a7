"""The gauges without a pose: coordinates in one frame fixed to three atoms, or in a frame per atom, standardised."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import Frame, frame_mask, log_frame_jacobian, middle_frame, to_frame
from gibbsian.coords.gauge import centred
from gibbsian.coords.internal import mean_free_constant
from gibbsian.coords.local import LocalCoordinates
from gibbsian.errors import InputError

LEAST_HEIGHT = 0.05
"""nm that the third atom of a frame must keep from the line through the other two."""
LEAST_SPREAD = 1e-6
"""nm; far below what thermal motion leaves to any bond."""


@dataclass(frozen=True, eq=False)
class FrameGauge:
    """The 3n - 6 coordinates in a frame of three atoms: the density does not depend on the pose at all.

    The two positive coordinates of the frame's atoms, ``r12`` and ``v``, enter by their logarithms. The other atoms are
    where they are in the frame, over one common scale; or, with `local`, vectors in local frames, each along its
    principal axes, that of the largest spread first. See `gibbsian.coords.frame` and `gibbsian.coords.local`.

    Attributes
    ----------
    frame
        Atoms 1, 2, 3.
    centre
        (n, 3) means of ``log r12``, ``u``, ``log v`` and of the other coordinates in nm.
    axes
        (n, 3, 3) what a token is multiplied by; identity where there is no coordinate.
    local
        Local frames; None for one frame.
    """

    frame: Frame
    centre: Tensor
    axes: Tensor
    local: LocalCoordinates | None = None

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
        _check_height(body, frame)
        centre, covariance = _moments(body, weights, frame)
        spread = torch.diagonal(covariance, dim1=1, dim2=2).clamp_min(LEAST_SPREAD**2).sqrt()
        mask = frame_mask(topology.n_atoms, frame)
        others = _others(topology.n_atoms, frame)
        if len(others):
            spread[others] = spread[others].square().mean().sqrt()
        return cls(frame, centre, torch.diag_embed(torch.where(mask, spread, 1.0)))

    @classmethod
    def local_from_data(cls, topology: Topology, x: Tensor, weights: Tensor) -> Self:
        """Take means and principal axes of weighted conformations (m, n, 3) nm in local frames.

        Raises
        ------
        InputError
            If the first three atoms of the chain come near a line in some conformation.
        """
        local = LocalCoordinates(topology)
        values = local.forward(x.double())
        _check_height(values, local.frame)
        centre, covariance = _moments(values, weights, local.frame)
        spread = torch.diagonal(covariance, dim1=1, dim2=2).clamp_min(LEAST_SPREAD**2).sqrt()
        axes = torch.diag_embed(torch.where(frame_mask(topology.n_atoms, local.frame), spread, 1.0))
        others = _others(topology.n_atoms, local.frame)
        variance, directions = torch.linalg.eigh(covariance[others])
        axes[others] = (directions * variance.clamp_min(LEAST_SPREAD**2).sqrt()[:, None]).flip(2)
        return cls(local.frame, centre, axes, local)

    @property
    def mask(self) -> Tensor:
        """Coordinates that are free in the frame."""
        return frame_mask(len(self.centre), self.frame)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn into the frame, take logarithms of the positive coordinates, standardise."""
        values = to_frame(x, self.frame) if self.local is None else self.local.forward(x)
        deviation = _with_logs(values, self.frame) - self.centre.to(x)
        tokens = torch.einsum("nij,bnj->bni", torch.linalg.inv(self.axes).to(x), deviation)
        # Absent coordinates are zero but for rounding, which must not reach the flow.
        return tokens * self.mask.to(x), -self._log_volume(values)

    def inverse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations with their centre at the origin, oriented by the frame."""
        values = torch.einsum("nij,bnj->bni", self.axes.to(tokens), tokens) + self.centre.to(tokens)
        values = torch.where(_positive(self.mask, self.frame).to(tokens.device), torch.exp(values), values)
        body = values if self.local is None else self.local.inverse(values)
        return centred(body), self._log_volume(values)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Nothing to move."""
        return x

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the frame, the means and the axes."""
        return {"frame": torch.tensor(self.frame), "centre": self.centre, "axes": self.axes}

    def _log_volume(self, values: Tensor) -> Tensor:
        """``log |d(shape) / d tokens|``, with ``dr = r d log r`` and ``dv = v d log v`` beside the frame's own."""
        logs = torch.log(values[:, self.frame[1], 0]) + torch.log(values[:, self.frame[2], 1])
        constant = torch.linalg.slogdet(self.axes).logabsdet.sum().to(values) + mean_free_constant(len(self.centre))
        return log_frame_jacobian(values, self.frame) + logs + constant


def _check_height(body: Tensor, frame: Frame) -> None:
    height = float(body[:, frame[2], 1].min())
    if not height > LEAST_HEIGHT:
        raise InputError(
            f"body frame: atoms {list(frame)} come within {height:.3f} nm of a line; name three at an angle in `frame`"
        )


def _moments(values: Tensor, weights: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Weighted means (n, 3) and covariances (n, 3, 3) of each atom's coordinates, with the frame's logarithms."""
    logs = _with_logs(values, frame) * frame_mask(values.shape[1], frame)
    centre = torch.einsum("b,bnd->nd", weights, logs)
    deviation = logs - centre
    return centre, torch.einsum("b,bni,bnj->nij", weights, deviation, deviation)


def _others(n_atoms: int, frame: Frame) -> list[int]:
    return [atom for atom in range(n_atoms) if atom not in frame]


def _positive(mask: Tensor, frame: Frame) -> Tensor:
    """Where ``r12`` and ``v`` are, (n, 3) bool."""
    positive = torch.zeros_like(mask)
    positive[frame[1], 0] = positive[frame[2], 1] = True
    return positive


def _with_logs(values: Tensor, frame: Frame) -> Tensor:
    positive = _positive(torch.ones(values.shape[1:], dtype=torch.bool), frame).to(values.device)
    # The inner `where` keeps the logarithm's gradient finite where it is not used.
    return torch.where(positive, torch.log(torch.where(positive, values, 1.0)), values)
