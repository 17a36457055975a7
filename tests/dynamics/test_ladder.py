import math

import numpy as np
import pytest
import torch

from gibbsian.dynamics.ladder import (
    first_swaps,
    statistical_inefficiency,
    swap_neighbours,
    temperature_ladder,
)
from gibbsian.units import kt


def test_ladder_is_geometric_and_grows_with_the_molecule() -> None:
    small, large = temperature_ladder(300.0, 700.0, 22), temperature_ladder(300.0, 700.0, 166)
    assert small[0] == 300.0
    assert small[-1] == pytest.approx(700.0)
    assert np.allclose(np.diff(np.log(small)), math.log(small[1] / small[0]))
    assert len(small) == 5
    assert len(large) > 2 * len(small)
    assert temperature_ladder(300.0, 250.0, 22) == (300.0,)
    assert temperature_ladder(300.0, 700.0, 22, n=1) == (300.0,)
    assert len(temperature_ladder(300.0, 700.0, 22, n=3)) == 3


@pytest.mark.physics
def test_predicted_acceptance_is_that_of_harmonic_molecules() -> None:
    n_atoms = 40
    t = temperature_ladder(300.0, 600.0, n_atoms, acceptance=0.4)
    thermal = torch.tensor([kt(value) for value in t], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4000, len(t), 3 * n_atoms, dtype=torch.float64, generator=generator)
    energy = 0.5 * thermal * normal.square().sum(-1)
    swaps = first_swaps(4000, len(t))
    for parity in (0, 1):
        swaps = swap_neighbours(first_swaps(4000, len(t)), energy, 1 / thermal, parity, generator)
        used = swaps.attempted > 0
        assert torch.allclose((swaps.accepted / swaps.attempted)[used], torch.tensor(0.42), atol=0.05)


@pytest.mark.physics
def test_swaps_leave_the_joint_distribution_unchanged() -> None:
    """Fresh exact samples each round: after a swap every temperature still has its own mean energy."""
    thermal = torch.tensor([kt(t) for t in (300.0, 350.0, 420.0)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    swaps = first_swaps(100_000, 3)
    for parity in (0, 1, 0):
        gamma = torch.randn(100_000, 3, 6, dtype=torch.float64, generator=generator).square().sum(-1)
        at = 0.5 * thermal * gamma  # by temperature
        energy = at.gather(1, swaps.level)  # by walker
        swaps = swap_neighbours(swaps, energy, 1 / thermal, parity, generator)
        mean = energy.gather(1, swaps.walker_at).mean(0)
        assert torch.allclose(mean, 3 * thermal, rtol=0.01)
    assert 0.3 < float(swaps.accepted.sum() / swaps.attempted.sum()) < 1.0
    assert torch.equal(swaps.walker_at.sort(1).values, first_swaps(100_000, 3).walker_at)


def test_a_favourable_swap_is_always_accepted_and_trips_are_counted() -> None:
    beta = torch.tensor([1.0, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    swaps = first_swaps(1, 2)
    for _ in range(4):  # the hot walker always has the lower energy
        energy = torch.where(swaps.level == 0, 100.0, -100.0)
        swaps = swap_neighbours(swaps, energy, beta, 0, generator)
    assert swaps.accepted.tolist() == [4]
    assert swaps.level.tolist() == [[0, 1]]
    # back at the bottom from the top: walker 0 after swaps 2 and 4, walker 1 after swap 3
    assert swaps.round_trips.sum() == 3


def test_statistical_inefficiency_of_an_autoregression() -> None:
    generator = np.random.default_rng(0)
    rho, n = 0.8, 4000
    x = np.zeros((20, n))
    x[:, 0] = generator.normal(size=20) / math.sqrt(1 - rho**2)
    for i in range(1, n):
        x[:, i] = rho * x[:, i - 1] + generator.normal(size=20)
    assert statistical_inefficiency(torch.from_numpy(x)) == pytest.approx((1 + rho) / (1 - rho), rel=0.1)
    white = torch.randn(20, 1000, generator=torch.Generator().manual_seed(0))
    assert statistical_inefficiency(white) == pytest.approx(1.0, abs=0.1)
    assert statistical_inefficiency(torch.ones(2, 10)) == 1.0
