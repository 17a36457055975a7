"""A flow of one atom, and the mixture of four Gaussians that it is annealed to."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import zuko
from torch import Tensor, nn

from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toys import GaussianMixture, toy_system
from gibbsian.training.annealing.settings import Annealing
from gibbsian.training.stages import TrainSettings

MEANS = 0.25 * torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1])
TRAINING = TrainSettings(ema=0.95, rare_share=0.0)
QUICK = Annealing(calls=36_000, samples=3_000, fit_steps=60, batch=256, lr=5e-3, trust=0.5, entropy=1.0)


@dataclass(frozen=True)
class Sizes:
    bins: int = 8


class OneAtom(nn.Module):
    """A spline flow of one atom's coordinates, much broader than the mixture at the start."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.topology, self.config, self.n_atoms = toy_system(np.zeros((1, 3))).topology, Sizes(), 1
        self.flow = zuko.flows.NSF(3, transforms=3, bins=8, hidden_features=(32, 32))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow().log_prob(x[:, 0].float() / 0.2).double() - 3 * math.log(0.2)

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return -self.log_prob(x)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = x.detach().double().requires_grad_()
            value = self.log_prob(leaf)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), grad

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, 3, generator=generator)
        flow = self.flow()
        x, log_det = flow.transform.inv.call_and_ladj(z)
        log_q = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1) - log_det - 3 * math.log(0.2)
        return 0.2 * x[:, None].double(), log_q.double()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, _ = self.rsample(n, generator)
        return x, self.log_prob(x)

    def log_gauge(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x


def target() -> Boltzmann:
    return Boltzmann(GaussianMixture(means=MEANS, weights=SHARES, width=0.05), 300.0)


def weighted(flow: OneAtom, n: int = 20_000) -> tuple[Tensor, Tensor, Tensor]:
    """Draws, log weights and which of the four modes each is nearest to."""
    x, log_q = flow.sample(n, torch.Generator().manual_seed(9))
    nearest = torch.cdist(x[:, 0].float(), MEANS).argmin(1)
    return x, -target().u(x) - log_q, nearest
