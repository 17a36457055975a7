import pytest
import torch
from torch import Tensor

from gibbsian.coords.gauge import random_rotations
from gibbsian.models.layers.egnn import EquivariantField
from gibbsian.models.layers.egnn_trace import velocity_and_trace

CLASSES = [0, 1, 1, 2, 1]


def a_field(depth: int, seed: int = 0) -> EquivariantField:
    """A network in double precision whose weights are not small."""
    torch.manual_seed(seed)
    field = EquivariantField(torch.tensor(CLASSES), width=8, depth=depth, reach=15.0).double()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return field


def conformations(n: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, len(CLASSES), 3, dtype=torch.float64, generator=generator)
    return x, torch.rand(n, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_trace_is_that_of_autograd(depth: int) -> None:
    field = a_field(depth)
    x, t = conformations()
    velocity, trace = velocity_and_trace(field, x, t)
    jacobian = torch.autograd.functional.jacobian(lambda y: field(y, t), x)
    assert isinstance(jacobian, Tensor)
    expected = torch.einsum("biabia->b", jacobian)
    assert float(expected.abs().min()) > 1e-2
    assert torch.allclose(trace, expected, rtol=1e-11, atol=1e-11)
    assert torch.allclose(velocity, field(x, t), rtol=1e-12, atol=1e-12)


def test_trace_is_differentiable() -> None:
    field = a_field(3)
    x, t = conformations(1)
    assert torch.autograd.gradcheck(lambda y: velocity_and_trace(field, y, t)[1], x.requires_grad_())


def test_velocity_turns_and_mirrors_with_the_molecule() -> None:
    field = a_field(4)
    x, t = conformations()
    velocity = field(x, t)
    assert float(velocity.detach().norm()) > 0.1
    assert torch.allclose(velocity.mean(1), torch.zeros(3, 3).double(), atol=1e-12)
    rotation = random_rotations(3, torch.Generator().manual_seed(2)).transpose(1, 2)
    assert torch.allclose(field(x @ rotation + 2.0, t), velocity @ rotation, atol=1e-10)
    assert torch.allclose(field(-x, t), -velocity, atol=1e-12)


def test_velocity_is_blind_within_classes_only() -> None:
    field = a_field(4)
    x, t = conformations()
    velocity = field(x, t)
    within, between = [0, 4, 1, 3, 2], [1, 0, 2, 3, 4]
    assert torch.allclose(field(x[:, within], t), velocity[:, within], atol=1e-12)
    assert not torch.allclose(field(x[:, between], t), velocity[:, between], atol=1e-3)


def test_velocity_depends_on_time() -> None:
    field = a_field(2)
    x, t = conformations()
    assert float((field(x, t) - field(x, t + 0.3)).detach().abs().max()) > 1e-4
