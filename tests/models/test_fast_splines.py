"""The compiled transform of couplings against the same in torch."""

import pytest
import torch

from gibbsian.kernels import instruction_sets, kernels
from gibbsian.models.layers import coupling, fast_splines
from gibbsian.models.layers.coupling import SplineCoupling, couple
from gibbsian.models.layers.fast_splines import Couple

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the compiled kernels were not built")
CIRCULAR = torch.tensor([True, False, True, False, False])
BOUND = 3.0


@pytest.fixture(params=instruction_sets())
def instruction_set(request, monkeypatch):
    monkeypatch.setattr(fast_splines, "_kernel", lambda name: (getattr(kernels(), name), request.param))


def inputs(n: int, bins: int = 8, seed: int = 0, dtype=torch.float64):
    """Variables on both sides of the bound, and rough parameters."""
    g = torch.Generator().manual_seed(seed)
    v = 3.0 * torch.randn(n, 5, generator=g, dtype=dtype)
    v[:, CIRCULAR] = torch.rand(n, 2, generator=g, dtype=dtype)
    return v, 1.5 * torch.randn(n, 5, 3 * bins + 1, generator=g, dtype=dtype)


def both(v, p, inverse):
    """Images, log-determinants and gradients of a random functional, in torch and compiled."""
    results = []
    for transform, circular in ((couple, CIRCULAR), (Couple.apply, CIRCULAR.to(v.dtype))):
        a, b = v.clone().requires_grad_(), p.clone().requires_grad_()
        y, log_det = transform(a, b, circular, BOUND, inverse)
        g = torch.Generator().manual_seed(1)
        loss = (y * torch.randn(y.shape, generator=g, dtype=y.dtype)).sum()
        (loss + (log_det * torch.randn(log_det.shape, generator=g, dtype=y.dtype)).sum()).backward()
        results.append((y.detach(), log_det.detach(), a.grad, b.grad))
    return zip(*results, strict=True)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("n", "bins"), [(1, 8), (37, 8), (200, 5), (8, 2), (20, 17)])
def test_values_and_gradients_are_those_of_torch(n, bins, inverse):
    for plain, compiled in both(*inputs(n, bins), inverse):
        assert torch.allclose(plain, compiled, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("inverse", [False, True])
def test_single_precision_errs_no_more_than_torch(inverse):
    v, p = inputs(500)
    exact = [plain for plain, _ in both(v, p, inverse)]
    for truth, (plain, compiled) in zip(exact, both(v.float(), p.float(), inverse), strict=True):
        error, usual = (compiled.double() - truth).abs(), (plain.double() - truth).abs()
        assert float(error.quantile(0.99)) < 4.0 * float(usual.quantile(0.99)) + 1e-6


@pytest.mark.usefixtures("instruction_set")
def test_the_inverse_goes_back():
    v, p = inputs(300)
    circular = CIRCULAR.double()
    y, log_det = Couple.apply(v, p, circular, BOUND, False)
    back, log_back = Couple.apply(y, p, circular, BOUND, True)
    assert torch.allclose(back, v, atol=1e-9)
    assert torch.allclose(log_back, -log_det, atol=1e-9)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("inverse", [False, True])
def test_what_is_not_a_number_stays_so_and_disturbs_no_other_row(inverse):
    v, p = inputs(6)
    clean, _ = Couple.apply(v, p, CIRCULAR.double(), BOUND, inverse)
    v[1] = torch.nan
    p[4] = torch.nan
    y, _ = Couple.apply(v, p, CIRCULAR.double(), BOUND, inverse)
    bad = torch.tensor([1, 4])
    assert bool(torch.isnan(y[bad]).all())
    good = torch.tensor([0, 2, 3, 5])
    assert torch.equal(y[good], clean[good])


def test_a_coupling_uses_the_kernels_and_agrees_with_torch(monkeypatch):
    torch.manual_seed(0)
    layer = SplineCoupling(CIRCULAR, torch.tensor([True, True, False, False, True]), 0, 8, 16, 2, BOUND).double()
    torch.nn.init.normal_(layer.conditioner.last.weight)
    v, _ = inputs(50)
    y, log_det = layer(v, v[:, :0])
    assert type(log_det.grad_fn).__name__ == "CoupleBackward"
    monkeypatch.setattr(coupling, "can_couple", lambda _: False)
    plain, plain_log_det = layer(v, v[:, :0])
    assert torch.allclose(y, plain, atol=1e-10)
    assert torch.allclose(log_det, plain_log_det, atol=1e-10)
