"""The five-atom chain with a stiff frozen angle whose mean follows a soft free one; everything known by quadrature."""

import math

import torch
from small_flows import CHAIN
from torch import Tensor

from gibbsian.coords.internal import mean_free_constant, wrap
from gibbsian.coords.reduced import ReducedCoordinates

SOFT, STIFF, SLOPE = 14.0, 80.0, 0.5
FREE_MEAN, FROZEN_MEAN = 1.3, 1.9
BOND, OTHER, DELTA = 1.0 / 0.003**2, 400.0, 100.0


class CoupledSprings:
    """Free are two angles and a torsion without energy; the branch's angle is stiff about a line in the first one."""

    n_atoms = 5

    def __init__(self) -> None:
        self.coordinates = ReducedCoordinates(CHAIN)

    def frozen_mean(self, soft: Tensor) -> Tensor:
        return FROZEN_MEAN + SLOPE * (soft - FREE_MEAN)

    def u(self, x: Tensor) -> Tensor:
        y, _ = self.coordinates.full.forward(x)
        free, frozen = self.coordinates.split(y)
        energy = 0.5 * SOFT * (free[:, 0] - FREE_MEAN).square() + 0.5 * OTHER * (free[:, 1] - 1.8).square()
        energy = energy + 0.5 * STIFF * (frozen[:, 1] - self.frozen_mean(free[:, 0])).square()
        energy = energy + 0.5 * DELTA * wrap(frozen[:, 0] - 2.1).square()
        return energy + 0.5 * BOND * (frozen[:, 2:] - 0.15).square().sum(-1)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        u = self.u(x)
        return u.detach(), torch.autograd.grad(u.sum(), x)[0]

    @property
    def c0(self) -> Tensor:
        return torch.tensor([2.1, FROZEN_MEAN, *[0.15] * 4]).double()

    def grids(self) -> tuple[Tensor, Tensor]:
        """Points of the soft angle and, (1, n), of the stiff one."""
        grid = torch.linspace(1e-4, math.pi - 1e-4, 1201, dtype=torch.float64)
        return grid, grid[None]

    def slice_density(self, sine: bool = True) -> tuple[Tensor, Tensor]:
        """Soft angle on a grid and its density with frozen ones at c0."""
        y, _ = self.grids()
        energy = 0.5 * SOFT * (y - FREE_MEAN).square() + 0.5 * STIFF * (FROZEN_MEAN - self.frozen_mean(y)).square()
        return y, torch.exp(-energy) * (torch.sin(y) if sine else 1.0)

    def marginal(self) -> tuple[Tensor, Tensor]:
        """Soft angle on a grid and its unnormalised density in the whole ensemble."""
        y, c = self.grids()
        energy = (
            0.5 * SOFT * (y - FREE_MEAN).square()[:, None] + 0.5 * STIFF * (c - self.frozen_mean(y)[:, None]).square()
        )
        inner = torch.trapezoid(torch.exp(-energy) * torch.sin(c), c.expand(len(y), -1), dim=1)
        return y, inner * torch.sin(y)

    def log_z(self) -> float:
        """Log Z in the mean-free orthonormal measure."""
        y, density = self.marginal()
        grid, _ = self.grids()
        other = torch.trapezoid(torch.exp(-0.5 * OTHER * (grid - 1.8).square()) * torch.sin(grid), grid)
        bond = math.sqrt(2 * math.pi / BOND) * (0.15**2 + 1 / BOND)
        total = math.log(float(torch.trapezoid(density, y))) + math.log(float(other)) + 4 * math.log(bond)
        delta = torch.linspace(-math.pi / 3, math.pi / 3, 2001, dtype=torch.float64)
        total += math.log(float(torch.trapezoid(torch.exp(-0.5 * DELTA * delta.square()), delta)))
        return total + math.log(2 * math.pi) + mean_free_constant(5)

    def propose(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Free coordinates (n, 3) of a simple density and its log."""
        g = torch.Generator().manual_seed(seed)
        means, widths = torch.tensor([FREE_MEAN, 1.8]).double(), torch.tensor([0.27, 0.055]).double()
        y = means + widths * torch.randn(n, 2, generator=g, dtype=torch.float64)
        turn = 2 * math.pi * torch.rand(n, 1, generator=g, dtype=torch.float64)
        log_q = torch.distributions.Normal(means, widths).log_prob(y).sum(-1) - math.log(2 * math.pi)
        return torch.cat([y, turn], -1), log_q

    def sample(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Conformations (n, 5, 3) with log weights towards the ensemble, made without any completion."""
        y, log_q = self.propose(n, seed)
        g = torch.Generator().manual_seed(seed + 1)
        widths = torch.tensor([DELTA, STIFF, *[BOND] * 4]).double().rsqrt()
        c = self.c0.repeat(n, 1)
        c[:, 1] = self.frozen_mean(y[:, 0])
        noise = torch.randn(n, 6, generator=g, dtype=torch.float64)
        c = c + widths * noise
        inside = ((y[:, :2] > 0) & (y[:, :2] < math.pi)).all(-1) & (c[:, 1] > 0) & (c[:, 1] < math.pi)
        y, c, log_q, noise = y[inside], c[inside], log_q[inside], noise[inside]
        x = self.coordinates.to_x(y, c)
        log_j = self.coordinates.log_jacobian_free(y) + self.coordinates.log_jacobian_frozen(c)
        return x, log_j - self.u(x) - log_q + 0.5 * noise.square().sum(-1)
