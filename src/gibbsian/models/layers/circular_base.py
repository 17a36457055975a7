"""The law at the base of a flow: torsions uniform or von Mises on the circle, angles standard normal."""

import math

import torch
from torch import Tensor, nn

_FLAT = 1e-8
_SMALL = 1e-5
_SHARPEST = 1e4
_NEWTON_STEPS = 8
_LOG_NORMAL = 0.5 * math.log(2.0 * math.pi)


class ProductBase(nn.Module):
    """Independent variables (n,): von Mises on the circle [0, 1), standard normal on the line.

    A concentration of zero is the uniform law.

    Parameters
    ----------
    periodic
        (n,) True for variables on the circle.
    centre, concentration
        (n,) turns and von Mises concentrations; those on the line are not looked at.
    """

    def __init__(self, periodic: Tensor, centre: Tensor, concentration: Tensor) -> None:
        super().__init__()
        self.periodic: Tensor
        self.centre: Tensor
        self.concentration: Tensor
        dtype = torch.get_default_dtype()
        self.register_buffer("periodic", periodic, persistent=False)
        self.register_buffer("centre", centre.to(dtype), persistent=False)
        self.register_buffer("concentration", concentration.to(dtype), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density (B,) of `z` (B, n) per turn and per unit of the line."""
        crest = torch.cos(2.0 * math.pi * (z - self.centre)) - 1.0
        circle = self.concentration * crest - torch.log(torch.special.i0e(self.concentration))
        return torch.where(self.periodic, circle, -0.5 * z.square() - _LOG_NORMAL).sum(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` vectors, (n, number of variables)."""
        dtype = self.centre.dtype
        z = torch.randn(n, len(self.centre), generator=generator, dtype=dtype)
        columns = torch.nonzero(self.periodic).squeeze(-1)
        turns = sample_von_mises(self.concentration[columns].double().expand(n, -1), generator) / (2.0 * math.pi)
        # Rounding to a shorter type may reach 1, which is the same place as 0.
        return z.index_copy(1, columns, torch.remainder((turns + self.centre[columns]).to(dtype), 1.0))


def sample_von_mises(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Draw angles in [-pi, pi] about zero, as many as concentrations (float64), by rejection (Best and Fisher 1979)."""
    kappa = concentration.reshape(-1)
    safe = kappa.clamp_min(_FLAT)
    tau = 1.0 + torch.sqrt(1.0 + 4.0 * safe.square())
    rho = (tau - torch.sqrt(2.0 * tau)) / (2.0 * safe)
    # The difference in rho cancels for a nearly flat law.
    r = torch.where(safe < _SMALL, 1.0 / safe + safe, (1.0 + rho.square()) / (2.0 * rho))
    angles = math.pi * (2.0 * torch.rand(kappa.shape, generator=generator, dtype=kappa.dtype) - 1.0)
    left = torch.nonzero(kappa > _FLAT).squeeze(-1)
    while len(left):
        u, accept, side = torch.rand(3, len(left), generator=generator, dtype=kappa.dtype)
        z = torch.cos(math.pi * u)
        f = ((1.0 + r[left] * z) / (r[left] + z)).clamp(-1.0, 1.0)
        c = kappa[left] * (r[left] - f)
        taken = (c * (2.0 - c) > accept) | (torch.log(c / accept) + 1.0 >= c)
        angles[left[taken]] = (torch.where(side < 0.5, -1.0, 1.0) * torch.acos(f))[taken]
        left = left[~taken]
    return angles.reshape(concentration.shape)


def fit_von_mises(turns: Tensor, log_w: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Centres in turns and concentrations (n,), float64, of greatest likelihood for weighted turns (B, n)."""
    turns = turns.double()
    weights = turns.new_full((len(turns),), 1.0 / len(turns)) if log_w is None else torch.softmax(log_w.double(), 0)
    phases = 2.0 * math.pi * turns
    c, s = weights @ torch.cos(phases), weights @ torch.sin(phases)
    length = torch.hypot(c, s).clamp_max(1.0 - 0.5 / _SHARPEST)
    kappa = length * (2.0 - length.square()) / (1.0 - length.square())
    for _ in range(_NEWTON_STEPS):
        ratio = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        slope = 1.0 - ratio.square() - ratio / kappa.clamp_min(_FLAT)
        slope = torch.where(kappa < _SMALL, 0.5, slope)
        kappa = (kappa - (ratio - length) / slope).clamp(0.0, _SHARPEST)
    return torch.remainder(torch.atan2(s, c) / (2.0 * math.pi), 1.0), kappa
