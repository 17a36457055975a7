"""A coupling that moves one set of points by what an equivariant network makes of another (arXiv 2308.10364).

From the fixed points y the network computes for each atom an origin o, two vectors r1 and r2, and the parameters of
three monotone splines, all of which turn with y or do not change. The moved point p is taken in spherical coordinates
about o, with the polar axis r1 and the azimuth from r2, and each coordinate goes through its own spline::

    p - o = r (sin th cos ph, sin th sin ph, cos th),   (r, th, ph) -> (r', th', ph')
    log |dp'/dp| = log dr'/dr + log dth'/dth + log dph'/dph + 2 log r'/r + log sin th' / sin th

The distance is mapped to [0, 1) by r / (r + 1). Geometry is in float64 throughout, the network in its own precision.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gibbsian.models.layers.egnn import EquivariantLayer, directions, pairs_of
from gibbsian.models.layers.splines import make_knots, rational_quadratic, rational_quadratic_inverse

TINY = 1e-300
FURTHEST = 1.0 - 1e-12
"""Largest r / (r + 1)."""


class FrameNetwork(nn.Module):
    """Origins, vectors and numbers for each atom from one conformation.

    Parameters
    ----------
    classes
        (n,) class of each atom, from 0; atoms of one class are treated alike.
    width, depth, reach
        Features, layers, and bound of the factors of all moves inside the network, and of those of the vectors.
    n_out
        Numbers per atom; all zero in a new network.
    """

    def __init__(self, classes: Tensor, width: int, depth: int, reach: float, n_out: int) -> None:
        super().__init__()
        self.reach = reach
        self.kinds: Tensor
        self.register_buffer("kinds", nn.functional.one_hot(classes).float(), persistent=False)
        self.others: Tensor
        self.register_buffer("others", 1.0 - torch.eye(len(classes))[..., None], persistent=False)
        self.embedding = nn.Linear(self.kinds.shape[1], width)
        self.layers = nn.ModuleList(EquivariantLayer(width, reach / depth, last=False) for _ in range(depth))
        self.pair = nn.Linear(2 * width + 1, width)
        self.vectors = nn.Linear(width, 3, bias=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, n_out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, n, 3, 3), one per row, and numbers (B, n, n_out) of conformations `y` (B, n, 3)."""
        pairs = pairs_of(y)
        moved, h = y, self.embedding(self.kinds).expand(len(y), -1, -1)
        for layer in self.layers:
            moved, h = layer(moved, h, pairs.square, self.others)
        mine, theirs = h[:, :, None].expand(-1, -1, len(self.kinds), -1), h[:, None].expand(-1, len(self.kinds), -1, -1)
        messages = silu(self.pair(torch.cat([mine, theirs, pairs.square[..., None]], -1)))
        # A mean over the others: a sum would let one step of training throw origins far away.
        factors = self.reach / (len(self.kinds) - 1) * torch.tanh(self.vectors(messages)) * self.others
        vectors = torch.einsum("bijk,bijc->bikc", factors, directions(pairs))
        return vectors, self.out(self.norm(h))


class SphericalCoupling(nn.Module):
    """Moves a set of points given another, see the module; a new one is the identity.

    Parameters
    ----------
    classes, width, depth, reach
        As for `FrameNetwork`.
    bins
        Intervals of each spline.
    """

    def __init__(self, classes: Tensor, width: int, depth: int, reach: float, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.network = FrameNetwork(classes, width, depth, reach, 9 * bins + 3)

    def forward(self, p: Tensor, y: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Move `p` (B, n, 3) given `y` (B, n, 3), or back; also log |dp'/dp| (B,). Both are float64."""
        vectors, numbers = self.network(y.to(self.network.kinds.dtype))
        vectors, numbers = vectors.double(), numbers.double()
        origin, frame = y + vectors[:, :, 0], frame_of(vectors[:, :, 1], vectors[:, :, 2])
        local = torch.einsum("bnkc,bnc->bnk", frame, p - origin)
        coordinates, before = to_spherical(local)
        moved, change = self._splines(coordinates, numbers, inverse)
        local, after = from_spherical(moved)
        p = origin + torch.einsum("bnkc,bnk->bnc", frame, local)
        return p, (change + after - before).sum(1)

    def _splines(self, u: Tensor, numbers: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """Map spherical coordinates (B, n, 3) in [0, 1]; also the sum of log derivatives (B, n)."""
        sizes = (3 * self.bins + 1, 3 * self.bins + 1, 3 * self.bins, 1)
        radial, polar, around, shift = numbers.split(sizes, -1)
        # The azimuth has no end: the slopes at 0 and 1 are the same.
        around = torch.cat([around, around[..., 2 * self.bins : 2 * self.bins + 1]], -1)
        knots = make_knots(torch.stack([radial, polar, around], -2))
        spline = rational_quadratic_inverse if inverse else rational_quadratic
        turned = torch.cat([u[..., :2], torch.remainder(u[..., 2:] - shift, 1.0)], -1) if inverse else u
        v, log_slope = spline(turned, knots)
        if not inverse:
            v = torch.cat([v[..., :2], torch.remainder(v[..., 2:] + shift, 1.0)], -1)
        return v, log_slope.sum(-1)


def frame_of(first: Tensor, second: Tensor) -> Tensor:
    """Right-handed orthonormal rows (..., 3, 3): the third along `first`, the first towards `second`."""
    axis = _unit(first)
    side = second - (second * axis).sum(-1, keepdim=True) * axis
    # Once more: for nearly parallel vectors the first projection leaves a rest that is not small any more.
    side = _unit(side)
    side = _unit(side - (side * axis).sum(-1, keepdim=True) * axis)
    return torch.stack([side, torch.linalg.cross(axis, side), axis], -2)


def to_spherical(local: Tensor) -> tuple[Tensor, Tensor]:
    """Spherical coordinates in [0, 1] of points (..., 3), and the log volume of a point by that of them (...)."""
    x, y, z = local.unbind(-1)
    rho = torch.sqrt((x.square() + y.square()).clamp_min(TINY))
    r = torch.sqrt((rho.square() + z.square()).clamp_min(TINY))
    theta, phi = torch.atan2(rho, z), torch.atan2(y, x)
    u = torch.stack([r / (r + 1.0), theta / math.pi, torch.remainder(phi / (2 * math.pi), 1.0)], -1)
    return u, _log_volume(r, rho)


def from_spherical(u: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `to_spherical`, with the same log volume."""
    distance = u[..., 0].clamp(max=FURTHEST)
    r = distance / (1.0 - distance)
    theta, phi = math.pi * u[..., 1], 2 * math.pi * u[..., 2]
    rho = r * torch.sin(theta)
    local = torch.stack([rho * torch.cos(phi), rho * torch.sin(phi), r * torch.cos(theta)], -1)
    return local, _log_volume(r, rho)


def _log_volume(r: Tensor, rho: Tensor) -> Tensor:
    """Log |dp / du| = log r^2 sin(theta) (1 + r)^2 2 pi^2."""
    safe = rho.clamp_min(TINY)
    return r.clamp_min(TINY).log() + safe.log() + 2.0 * torch.log1p(r) + math.log(2.0 * math.pi**2)


def _unit(v: Tensor) -> Tensor:
    return v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(1e-30)
