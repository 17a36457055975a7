import math

import pytest
import torch

from gibbsian.models.layers.coupling import SplineCoupling

PERIODIC = torch.tensor([True, True, False, False])
MASK = torch.tensor([True, False, True, False])


def jacobians(made: SplineCoupling, v: torch.Tensor) -> torch.Tensor:
    """(B, n, n); variables of different rows do not see each other."""
    alone = torch.autograd.functional.jacobian(lambda u: made(u, u[:, :0])[0].sum(0), v)
    assert isinstance(alone, torch.Tensor)
    return alone.movedim(1, 0)


@torch.no_grad()
def layer(mask=MASK, periodic=PERIODIC, seed: int = 0, scale: float = 0.5) -> SplineCoupling:
    torch.manual_seed(seed)
    made = SplineCoupling(periodic, mask, 0, bins=6, hidden=16, depth=2, bound=4.0).double()
    torch.nn.init.normal_(made.conditioner.last.weight, std=scale)
    torch.nn.init.normal_(made.conditioner.last.bias, std=scale)
    return made.requires_grad_(False)


def variables(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    turns = torch.rand(n, 2, generator=g, dtype=torch.float64)
    return torch.cat([turns, 2.0 * torch.randn(n, 2, generator=g, dtype=torch.float64)], 1)


def test_log_determinant_against_autograd_and_inverse():
    made, v = layer(), variables(20)
    y, log_det = made(v, v[:, :0])
    back, log_inverse = made.inverse(y, v[:, :0])
    assert torch.allclose(back, v, atol=1e-9)
    assert torch.allclose(log_inverse, -log_det, atol=1e-9)
    assert torch.allclose(torch.linalg.slogdet(jacobians(made, v)).logabsdet, log_det, atol=1e-9)


def test_transformed_variables_do_not_see_each_other():
    made, v = layer(), variables(5)
    jacobian = jacobians(made, v)
    block = jacobian[:, MASK][:, :, MASK]
    assert float((block - torch.diag_embed(block.diagonal(dim1=1, dim2=2))).abs().max()) == 0.0
    identity = torch.eye(2, dtype=torch.float64).expand(5, 2, 2)
    assert torch.equal(jacobian[:, ~MASK][:, :, ~MASK], identity)
    assert float(jacobian[:, ~MASK][:, :, MASK].abs().max()) == 0.0


def test_identity_at_the_start():
    torch.manual_seed(0)
    made, v = SplineCoupling(PERIODIC, MASK, 0, 8, 16, 2, 5.0).double().requires_grad_(False), variables(50)
    y, log_det = made(v, v[:, :0])
    assert torch.allclose(y, v, atol=1e-12)
    assert torch.allclose(log_det, torch.zeros_like(log_det), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_circle_has_no_seam(seed):
    made = layer(mask=torch.tensor([True, False]), periodic=torch.tensor([True, True]), seed=seed)
    edge = torch.tensor([[0.0, 0.3], [1.0 - 1e-12, 0.3], [1e-12, 0.3]], dtype=torch.float64)
    y, log_det = made(edge, edge[:, :0])
    turns = torch.exp(2j * math.pi * y[:, 0])
    assert float((turns - turns[0]).abs().max()) < 1e-9
    assert float((log_det - log_det[0]).abs().max()) < 1e-9
    other = torch.tensor([[0.7, 0.0], [0.7, 1.0]], dtype=torch.float64)
    assert torch.allclose(made(other, other[:, :0])[0][0, 0], made(other, other[:, :0])[0][1, 0], atol=1e-9)


def test_two_dimensional_flow_on_the_torus_integrates_to_one():
    periodic = torch.tensor([True, True])
    first = layer(mask=torch.tensor([True, False]), periodic=periodic, seed=1)
    second = layer(mask=torch.tensor([False, True]), periodic=periodic, seed=2)
    grid = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    v = torch.cartesian_prod(grid, grid)
    y, a = first(v, v[:, :0])
    _, b = second(y, v[:, :0])
    assert abs(float(torch.exp(a + b).mean()) - 1.0) < 1e-3
