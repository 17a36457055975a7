"""The step of constrained mass transport: its gradients, its constraints, and what they promise."""

import math

import numpy as np
import pytest
import torch

from gibbsian.training.annealing.dual import dual, solve
from gibbsian.training.annealing.weights import FINAL, Powers, weigh

Draws = tuple[torch.Tensor, torch.Tensor]
N, DIMENSIONS, BROAD, NARROW, SHIFT = 100_000, 4, 2.0, 0.5, 0.3


@pytest.fixture(scope="module")
def draws() -> Draws:
    """log q and log p of draws of a broad Gaussian for a narrow target."""
    z = BROAD * torch.randn(N, DIMENSIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_q = -0.5 * (z / BROAD).square().sum(1) - DIMENSIONS * math.log(BROAD * math.sqrt(2 * math.pi))
    return log_q, -0.5 * ((z - SHIFT) / NARROW).square().sum(1)


@pytest.mark.parametrize(("lam", "eta"), [(0.5, 3.0), (20.0, 0.0), (0.0, 7.0)])
def test_the_gradient_of_the_dual_is_that_of_finite_differences(draws: Draws, lam: float, eta: float):
    h = 1e-5
    _, by_lam, by_eta = dual(*draws, lam, eta, 0.3, 1.0)

    def value(a: float, b: float) -> float:
        return dual(*draws, a, b, 0.3, 1.0)[0]

    assert by_lam == pytest.approx((value(lam + h, eta) - value(lam - h, eta)) / (2 * h), abs=1e-6)
    assert by_eta == pytest.approx((value(lam, eta + h) - value(lam, eta - h)) / (2 * h), abs=1e-6)


@pytest.mark.parametrize(("trust", "entropy"), [(0.3, math.inf), (0.1, 3.0), (1.0, 5.0)])
def test_an_active_trust_region_is_used_up_and_bounds_the_effective_size(draws: Draws, trust: float, entropy: float):
    powers = solve(*draws, trust, entropy)
    step = weigh(*draws, powers)
    assert powers.a > 0
    assert step.divergence == pytest.approx(trust, abs=1e-3)
    assert step.ess <= math.exp(-step.divergence)
    assert step.ess <= math.exp(-trust) + 1e-3


def test_an_active_entropy_bound_is_used_up_and_leaves_the_trust_region_idle(draws: Draws):
    powers = solve(*draws, 0.3, 0.2)
    step = weigh(*draws, powers)
    assert powers.a == pytest.approx(0.0, abs=1e-3)
    assert step.entropy_drop == pytest.approx(0.2, abs=1e-3)
    assert step.divergence < 0.3
    assert step.ess > math.exp(-0.3)


def test_both_bounds_may_be_active_at_once(draws: Draws):
    loose = weigh(*draws, solve(*draws, 0.3, math.inf)).entropy_drop
    powers = solve(*draws, 0.3, 0.8 * loose)
    step = weigh(*draws, powers)
    assert 0 < powers.a + powers.b < 1
    assert step.divergence <= 0.3 + 1e-3
    assert step.entropy_drop == pytest.approx(0.8 * loose, abs=1e-3)


def test_bounds_that_bind_nothing_lead_to_the_target(draws: Draws):
    assert solve(*draws, 100.0, 100.0) == FINAL
    assert solve(*draws) == FINAL


def test_conformations_without_an_energy_weigh_nothing(draws: Draws):
    log_q, log_p = draws[0].clone(), draws[1].clone()
    log_p[::10] = -math.inf
    powers = solve(log_q, log_p, 0.3, 1.0)
    step = weigh(log_q, log_p, powers)
    assert np.isfinite([step.ess, step.log_z, step.divergence, step.entropy_drop]).all()
    assert torch.isneginf(step.log_w[::10]).all()
    assert 0 < powers.b < 1


def test_tempering_an_exact_gaussian_scales_its_variance(draws: Draws):
    """Reweighting q at T to T / b multiplies the variance by 1 / b: the temperature enters once."""
    z = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * math.sqrt(1 / 0.5)
    log_p = -0.5 * z.square()
    step = weigh(0.5 * log_p, log_p, Powers(0.0, 0.8))
    variance = float((torch.softmax(step.log_w, 0) * z.square()).sum())
    assert variance == pytest.approx(1 / 0.8, rel=0.02)
