import math

import pytest
import torch
from torch import Tensor

from gibbsian.sampling.orientation import orientation_ess


class Dumbbell:
    """Two atoms at distance 1 whose direction has the density (1 + a cos theta) / 4 pi."""

    n_atoms = 2

    def __init__(self, a: float) -> None:
        self.a = a

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        v = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        half = 0.5 * v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
        x = torch.stack([-half, half], 1) + 7.0
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.log1p(self.a * (x[:, 1] - x[:, 0])[:, 2]) - math.log(4 * math.pi)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def log_gauge(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64)


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
def test_fraction_of_a_known_law(a):
    """E[r] = 1 and E[1 / r] = atanh(a) / a for a uniform cosine."""
    found = orientation_ess(Dumbbell(a), n=200, n_rotations=2000)
    expected = a / math.atanh(a) if a else 1.0
    assert found.fraction == pytest.approx(expected, abs=4 * found.error + 2e-3)
    assert found.error < 0.01
