import pytest
import torch

from gibbsian.errors import InputError
from gibbsian.models.layers.masked import SplineAutoregression
from gibbsian.models.spline import SplineConfig

PERIODIC = torch.tensor([True, True, False, False, True])
ORDER = torch.tensor([3, 0, 4, 1, 2])


@torch.no_grad()
def layer(seed: int = 0) -> SplineAutoregression:
    torch.manual_seed(seed)
    made = SplineAutoregression(PERIODIC, ORDER, 2, bins=6, hidden=24, depth=2, bound=4.0).double()
    torch.nn.init.normal_(made.last.weight, std=0.5)
    torch.nn.init.normal_(made.last.bias, std=0.5)
    return made.requires_grad_(False)


def variables(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    v = 2.0 * torch.randn(n, 5, generator=g, dtype=torch.float64)
    v[:, PERIODIC] = torch.rand(n, 3, generator=g, dtype=torch.float64)
    return v, torch.randn(n, 2, generator=g, dtype=torch.float64)


def test_log_determinant_against_autograd_and_inverse():
    made, (v, context) = layer(), variables(30)
    y, log_det = made(v, context)
    back, log_back = made.inverse(y, context)
    assert torch.allclose(back, v, atol=1e-9)
    assert torch.allclose(log_back, -log_det, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda u: made(u, context)[0].sum(0), v)
    assert isinstance(jacobian, torch.Tensor)
    assert torch.allclose(torch.linalg.slogdet(jacobian.movedim(1, 0)).logabsdet, log_det, atol=1e-9)


def test_every_variable_sees_those_before_it_and_the_context():
    made, (v, context) = layer(), variables(4)
    by_v, by_context = torch.autograd.functional.jacobian(lambda u, c: made(u, c)[0].sum(0), (v, context))
    ordered = by_v.movedim(1, 0)[:, ORDER][:, :, ORDER]
    assert float(ordered.triu(1).abs().max()) == 0.0
    lower = torch.ones(5, 5).tril() > 0
    assert bool((ordered[:, lower] != 0).all())
    assert bool((by_context != 0).any(-1).all())


def test_a_new_layer_is_the_identity():
    made = SplineAutoregression(PERIODIC, ORDER, 0, 8, 16, 1, 5.0).double().requires_grad_(False)
    v, _ = variables(20)
    y, log_det = made(v, v[:, :0])
    assert torch.allclose(y, v, atol=1e-12)
    assert torch.allclose(log_det, torch.zeros_like(log_det), atol=1e-12)


def test_unknown_layers_are_refused():
    with pytest.raises(InputError, match="layers: got 'spline'"):
        SplineConfig(layers="spline")  # pyright: ignore[reportArgumentType]
