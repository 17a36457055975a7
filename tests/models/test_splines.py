import math

import pytest
import torch

from gibbsian.models.layers.splines import make_knots, rational_quadratic, rational_quadratic_inverse


def random_knots(n: int, bins: int, scale: float, dtype: torch.dtype, slope_min: float = 0.05, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    return make_knots(scale * torch.randn(n, 3 * bins + 1, generator=g, dtype=dtype), slope_min)


def test_derivative_against_autograd_and_inverse():
    knots = random_knots(500, 8, 1.0, torch.float64)
    x = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y, log_derivative = rational_quadratic(x, knots)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_derivative, atol=1e-10)
    back, log_inverse = rational_quadratic_inverse(y, knots)
    assert torch.allclose(back, x, atol=1e-12)
    assert torch.allclose(log_inverse, -log_derivative, atol=1e-10)


def test_zero_parameters_are_the_identity():
    knots = make_knots(torch.zeros(7, 25))
    x = torch.linspace(0, 1, 7)
    y, log_derivative = rational_quadratic(x, knots)
    assert torch.allclose(y, x, atol=1e-6)
    assert float(log_derivative.abs().max()) < 1e-5


def test_slopes_stay_within_the_soft_clip():
    knots = random_knots(100, 8, 1e3, torch.float64)
    assert float(knots[:, 2].min()) > 0.049
    assert float(knots[:, 2].max()) < 20.1


def round_trip_error(slope_min: float) -> float:
    knots = random_knots(100_000, 8, 10.0, torch.float32, slope_min)
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(2))
    y, _ = rational_quadratic(x, knots)
    back, _ = rational_quadratic_inverse(y, knots)
    return float(torch.quantile(10.0 * (back - x).abs(), 0.999))


def test_float32_round_trip_depends_on_the_soft_clip():
    assert round_trip_error(0.05) < 1e-3
    assert round_trip_error(1e-3) > 1e-3


def test_finite_gradients_outside_the_domain():
    p = torch.randn(4, 25, requires_grad=True)
    x = torch.tensor([-3.0, -1e-9, 1.0, 5.0], requires_grad=True)
    for direction in (rational_quadratic, rational_quadratic_inverse):
        y, log_derivative = direction(x, make_knots(p))
        grads = torch.autograd.grad(y.sum() + log_derivative.sum(), [x, p])
        assert all(bool(torch.isfinite(g).all()) for g in grads)
    y, _ = rational_quadratic(x.detach(), make_knots(p.detach()))
    assert float((y - torch.tensor([0.0, 0.0, 1.0, 1.0])).abs().max()) < 1e-6


def test_agreement_with_zuko():
    transforms = pytest.importorskip("zuko.transforms")
    g = torch.Generator().manual_seed(3)
    p = [torch.randn(200, k, generator=g, dtype=torch.float64) for k in (8, 8, 7)]
    x = 10.0 * torch.rand(200, generator=g, dtype=torch.float64) - 5.0
    oracle = transforms.MonotonicRQSTransform(*p, bound=5.0, slope=0.05)
    expected, expected_log = oracle.call_and_ladj(x)
    zero = torch.zeros(200, 1, dtype=torch.float64)
    knots = make_knots(torch.cat([p[0], p[1], zero, p[2], zero], -1))
    y, log_derivative = rational_quadratic((x + 5.0) / 10.0, knots)
    assert torch.allclose(10.0 * y - 5.0, expected, atol=1e-6)
    assert torch.allclose(log_derivative, expected_log, atol=1e-6)
    assert math.isfinite(float(log_derivative.sum()))
