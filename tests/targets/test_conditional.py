import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.library import built_in
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import log_jacobian
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.potentials import potential
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.targets.conditional import ConditionalTarget, SliceTarget

NAMES = ("C1", "C2", "C3", "C4", "F1")
BONDS = np.array([[0, 1], [1, 2], [2, 3], [2, 4]])
CHAIN = Topology(NAMES, tuple("CCCCF"), np.zeros(5, dtype=np.int64), ("MOL",), ("1",), BONDS)


class CoupledAngles:
    """Soft free angle about 1.0, stiff frozen one (k = 80 kT/rad^2) whose mean follows it, all else at rest."""

    n_atoms = 5

    def __init__(self) -> None:
        self.coordinates = ReducedCoordinates(CHAIN)

    def u(self, x: Tensor) -> Tensor:
        free, frozen = self.coordinates.from_x(x)
        return self.of(free[:, 0], frozen[:, 1]) + 200.0 * (free[:, 1] - 1.8).square() + torch.cos(free[:, 2])

    def of(self, y: Tensor, c: Tensor) -> Tensor:
        return 4.0 * (y - 1.0).square() + 40.0 * (c - 1.9 - 0.6 * (y - 1.0)).square()

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def mean(grid: Tensor, density: Tensor) -> float:
    return float(torch.trapezoid(grid * density, grid) / torch.trapezoid(density, grid))


def test_slice_of_a_toy_against_quadrature_with_and_without_the_sine():
    toy = CoupledAngles()
    c0 = torch.tensor([2.1, 1.8, *[0.15] * 4]).double()
    target = ConditionalTarget(toy, toy.coordinates, c0)
    assert isinstance(target, SliceTarget)
    assert target.n_variables == 3
    grid = torch.linspace(1e-3, 3.1405, 4001, dtype=torch.float64)
    y = torch.stack([grid, torch.full_like(grid, 1.8), torch.full_like(grid, 0.3)], -1)
    found = mean(grid, torch.exp(-target.u(y)))
    energy = toy.of(grid, c0[1])
    with_sine, without = mean(grid, torch.exp(-energy) * torch.sin(grid)), mean(grid, torch.exp(-energy))
    assert found == pytest.approx(with_sine, abs=1e-6)
    assert with_sine - without > 0.01
    stiff = grid[None]
    inner = torch.trapezoid(torch.exp(-toy.of(grid[:, None], stiff)) * torch.sin(stiff), stiff.expand(4001, -1), dim=1)
    assert abs(mean(grid, inner * torch.sin(grid)) - with_sine) > 0.01  # the marginal of all is another ensemble


def test_frozen_factors_are_in_the_energy():
    toy = CoupledAngles()
    c0 = torch.tensor([2.1, 1.8, 0.15, 0.14, 0.13, 0.16]).double()
    y = torch.tensor([[1.2, 1.7, 0.4], [0.9, 2.0, -9.0]]).double()
    target = ConditionalTarget(toy, toy.coordinates, c0)
    whole = toy.u(target.x(y)) - log_jacobian(toy.coordinates.join(y, c0))
    assert torch.allclose(target.u(y), whole, atol=1e-10)


@pytest.fixture(scope="module")
def dialanine() -> tuple[ConditionalTarget, Tensor]:
    system = built_in("ACE-ALA-NME")
    coordinates = ReducedCoordinates(system.topology)
    y, frozen = coordinates.from_x(torch.from_numpy(system.positions).double()[None])
    target = Boltzmann(potential(system, engine="torch"), 300.0)
    noise = torch.randn(6, y.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ConditionalTarget(target, coordinates, frozen[0]), y + 0.05 * noise


def test_gradient_through_the_zmatrix_is_that_of_finite_differences(dialanine):
    target, y = dialanine
    u, grad = target.u_and_grad(y)
    assert torch.allclose(u, target.u(y))
    step = 1e-5
    for k in range(target.n_variables):
        move = torch.zeros_like(y)
        move[:, k] = step
        slope = (target.u(y + move) - target.u(y - move)) / (2.0 * step)
        assert torch.allclose(slope, grad[:, k], rtol=1e-5, atol=1e-3)


def test_one_energy_call_for_value_and_gradient_and_a_backward_pass_of_a_loss(dialanine):
    target, y = dialanine
    system = built_in("ACE-ALA-NME")
    engine = potential(system)
    counted = ConditionalTarget(Boltzmann(engine, 300.0), target.coordinates, target.c0)
    leaf = y.clone().requires_grad_()
    counted.u(leaf).mean().backward()
    assert engine.calls == len(y)
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad * len(y), target.u_and_grad(y)[1], rtol=1e-4, atol=1e-2)


def test_outside_the_domain_is_infinite_and_harms_no_gradient(dialanine):
    target, y = dialanine
    angle = int(np.flatnonzero(~target.coordinates.variables.periodic)[0])
    wrong = y.clone()
    wrong[0, angle], wrong[1, angle] = -0.1, 3.2
    leaf = wrong.requires_grad_()
    u = target.u(leaf)
    assert bool(torch.isinf(u[:2]).all())
    assert torch.allclose(u[2:], target.u(y[2:]))
    u[torch.isfinite(u)].sum().backward()
    assert leaf.grad is not None
    assert bool(torch.isfinite(leaf.grad).all())
    assert float(target.u_and_grad(wrong)[1][:2].abs().max()) == 0.0


def test_wrong_sizes_are_named(dialanine):
    target, _ = dialanine
    with pytest.raises(InputError, match="c0 has shape"):
        ConditionalTarget(target.target, target.coordinates, target.c0[1:])
    with pytest.raises(InputError, match="energies of 5 atoms and coordinates of 22"):
        ConditionalTarget(CoupledAngles(), target.coordinates, target.c0)
