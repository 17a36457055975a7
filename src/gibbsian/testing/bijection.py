"""Conformance of internal coordinates, in one call."""

from typing import Protocol

import torch
from torch import Tensor

from gibbsian.coords.internal import Internal


class InternalBijection(Protocol):
    """What `check_bijection` checks; `InternalCoordinates` is one."""

    def forward(self, x: Tensor) -> tuple[Internal, Tensor]:
        """From x (B, n, 3) to coordinates and log |dy/dx|, (B,)."""
        ...

    def inverse(self, y: Internal) -> tuple[Tensor, Tensor]:
        """From coordinates to x (B, n, 3) and log |dx/dy|, (B,)."""
        ...


def check_bijection(bijection: InternalBijection, x: Tensor, tolerance: float = 1e-10) -> None:
    """Check a bijection between conformations and internal coordinates; AssertionError says what fails.

    Distances and handedness after a round trip; invariance under rotation and translation; torsions in (-pi, pi];
    both log-determinants against each other and against the autograd Jacobian with six pose variables.

    Parameters
    ----------
    bijection
        What to check.
    x
        (B, n, 3) nm, float64, sane conformations.
    tolerance
        On lengths (nm), angles and log-determinants.
    """
    y, log_det = bijection.forward(x)
    back, log_j = bijection.inverse(y)
    assert back.shape == x.shape, f"inverse gives shape {tuple(back.shape)} for {tuple(x.shape)}"
    assert log_det.shape == log_j.shape == (len(x),), "log-determinants must have shape (B,)"
    assert float((log_det + log_j).abs().max()) < tolerance, "log-determinants of forward and inverse disagree"
    error = float((_distances(back) - _distances(x)).abs().max())
    assert error < tolerance, f"distances change by {error:.1e} nm in a round trip"
    assert torch.equal(torch.sign(_volumes(back)), torch.sign(_volumes(x))), "a round trip mirrors the molecule"
    assert float(y.torsions.abs().max()) <= torch.pi, "torsions must lie in (-pi, pi]"
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=x.dtype)
    moved, _ = bijection.forward(x @ turn.T + 1.0)
    for name, a, b in zip(y._fields, y, moved, strict=True):
        assert float(_angular(a - b).abs().max()) < tolerance, f"{name} depend on the pose"
    for k in range(len(x)):
        exact = _log_volume(bijection, Internal(*(part[k : k + 1] for part in y)))
        error = abs(exact - float(log_j[k]))
        assert error < tolerance, f"log J is off by {error:.1e} from the autograd Jacobian"


def _log_volume(bijection: InternalBijection, y: Internal) -> float:
    """Log |det [dx/dy, rotations, translations]| of one conformation."""

    def place(bonds: Tensor, angles: Tensor, torsions: Tensor) -> Tensor:
        return bijection.inverse(Internal(bonds, angles, torsions))[0][0].reshape(-1)

    internal = torch.cat([j[:, 0] for j in torch.autograd.functional.jacobian(place, tuple(y))], 1)
    x = bijection.inverse(y)[0][0]
    axes = torch.eye(3, dtype=x.dtype)
    rotations = torch.stack([torch.linalg.cross(axis.expand_as(x), x).reshape(-1) for axis in axes], 1)
    translations = axes.repeat(len(x), 1)
    return float(torch.linalg.slogdet(torch.cat([internal, rotations, translations], 1)).logabsdet)


def _distances(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x[:, :, None] - x[:, None], dim=-1)


def _volumes(x: Tensor) -> Tensor:
    """Signed volumes of consecutive quadruples of atoms; the sign of flat ones, below 1e-9 nm^3, is zero."""
    a, b, c = (x[:, k : x.shape[1] - 3 + k] - x[:, 3:] for k in range(3))
    volume = (torch.linalg.cross(a, b) * c).sum(-1)
    return torch.where(volume.abs() < 1e-9, 0.0, volume)


def _angular(difference: Tensor) -> Tensor:
    return torch.remainder(difference + torch.pi, 2.0 * torch.pi) - torch.pi
