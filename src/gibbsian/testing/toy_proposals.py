"""Toy proposals with exact densities and latent variables, for tests of what corrects a proposal."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class LatentToy:
    """A bijection of standard normal variables, defined by `_decode` and `_encode`; a `LatentProposal`."""

    n_atoms: int
    n_latent: int = 3

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z (B, d) to x (B, N, 3) and log |dx/dz| (B,)."""
        raise NotImplementedError

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x to z and log |dx/dz|."""
        raise NotImplementedError

    def latent_circular(self) -> Tensor:
        """No variable is on the circle."""
        return torch.zeros(self.n_latent, dtype=torch.bool)

    def to_latent(self, x: Tensor) -> Tensor:
        """Latent variables (B, d) of `x` (B, N, 3)."""
        return self._encode(x.double())[0]

    def from_latent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations (B, N, 3) and their log density (B,)."""
        x, log_det = self._decode(z)
        return x, _log_normal(z) - log_det

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations and their log density."""
        return self.from_latent(torch.randn(n, self.n_latent, dtype=torch.float64, generator=generator))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, N, 3), (B,)."""
        z, log_det = self._encode(x.double())
        return _log_normal(z) - log_det

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient (B, N, 3)."""
        with torch.enable_grad():
            leaf = x.detach().double().requires_grad_()
            value = self.log_prob(leaf)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), grad

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero: the density is over what the target sees."""
        return torch.zeros(len(x), dtype=torch.float64)


@dataclass(eq=False)
class Bent(LatentToy):
    """One atom at (z1, z2 exp(z1/2) + z1, z3): a curved density with a gradient and a Jacobian that vary."""

    n_atoms: int = 1

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        first, second, third = z.unbind(1)
        return torch.stack([first, second * torch.exp(first / 2) + first, third], 1)[:, None], first / 2

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second, third = x[:, 0].unbind(1)
        return torch.stack([first, (second - first) * torch.exp(-first / 2), third], 1), first / 2


@dataclass(eq=False)
class BentTarget:
    """Target u = (x1 - 0.5)^2 / 0.98 + (x2 - x1)^2 / 2 + x3^2 / 2 for `Bent`, not normalised.

    With t = 0.6 of the linear path from `Bent`, E[x2] = 0.357 and E[x2^2] = 1.813.
    """

    n_atoms: int = 1

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy of `x` (B, 1, 3), (B,); infinite where not finite."""
        first, second, third = x[:, 0].double().unbind(1)
        u = (first - 0.5).square() / 0.98 + (second - first).square() / 2 + third.square() / 2
        return torch.where(torch.isfinite(u), u, torch.inf)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, 1, 3)."""
        with torch.enable_grad():
            leaf = x.detach().double().requires_grad_()
            u = self.u(leaf)
            (grad,) = torch.autograd.grad(u.sum(), leaf)
        return u.detach(), torch.nan_to_num(grad)


@dataclass(eq=False)
class LoosePair(LatentToy):
    """Two atoms, centred, whose orthonormal difference (x1 - x2)/sqrt(2) is normal with a width in nm."""

    width: float = 0.25
    n_atoms: int = 2

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        half = self.width * z / math.sqrt(2)
        return torch.stack([half, -half], 1), self._constant(z)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x[:, 0] - x[:, 1]) / (math.sqrt(2) * self.width)
        return z, self._constant(z)

    def _constant(self, z: Tensor) -> Tensor:
        return torch.full((len(z),), 3 * math.log(self.width), dtype=torch.float64)


@dataclass(eq=False)
class DriftingPair(LoosePair):
    """`LoosePair` with a centroid that is normal with a width in nm, which `log_gauge` declares."""

    spread: float = 0.1
    n_latent: int = 6

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = LoosePair._decode(self, z[:, :3])
        return x + self.spread * z[:, None, 3:] / math.sqrt(2), self._both(z)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        difference, _ = LoosePair._encode(self, x)
        return torch.cat([difference, math.sqrt(2) * x.mean(1) / self.spread], 1), self._both(x)

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) of the orthonormal centroid coordinate sqrt(2) c of `x` (B, 2, 3)."""
        return _log_normal(math.sqrt(2) * x.double().mean(1) / self.spread) - 3 * math.log(self.spread)

    def _both(self, like: Tensor) -> Tensor:
        return self._constant(like) + 3 * math.log(self.spread)


def _log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
