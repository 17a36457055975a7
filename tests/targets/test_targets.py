import pytest
import torch

from gibbsian.errors import InputError
from gibbsian.targets.base import Target
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.targets.extended import Extended
from gibbsian.testing.target import check_target
from gibbsian.testing.toys import DoubleWell, GaussianMixture, GaussianWell, HarmonicMolecule, Toy
from gibbsian.units import kt

TOYS = [GaussianWell(3), GaussianMixture(), DoubleWell(), HarmonicMolecule(5)]


def conformations(toy: Toy) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    x = 0.1 * torch.randn(4, toy.n_atoms, 3, dtype=torch.float64, generator=generator)
    x[:, 0, 0] += 0.3
    return x


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: type(toy).__name__)
def test_boltzmann_conforms(toy: Toy) -> None:
    target = Boltzmann(toy, 310.0)
    assert isinstance(target, Target)
    check_target(target, conformations(toy))


def test_extended_conforms_and_adds_the_gauge() -> None:
    molecule = HarmonicMolecule(3)

    def log_gauge(x: torch.Tensor) -> torch.Tensor:
        return -0.5 * (x.mean(1) / 0.1).square().sum(-1)

    x = conformations(molecule)
    target = Extended(Boltzmann(molecule, 300.0), log_gauge)
    check_target(target, x)
    assert torch.allclose(target.u(x), Boltzmann(molecule, 300.0).u(x) - log_gauge(x))
    constant = Extended(Boltzmann(molecule, 300.0), lambda x: torch.zeros(len(x)))
    check_target(constant, x)


def test_temperatures_one_or_many() -> None:
    well = GaussianWell(2)
    x = conformations(well)
    target = Boltzmann(well, 300.0)
    assert torch.allclose(target.at(600.0).u(x), target.u(x) / 2)
    each = torch.tensor([300.0, 400.0, 500.0, 600.0])
    u, grad = target.at(each).u_and_grad(x)
    assert torch.allclose(u * kt(1.0) * each, well.energy(x))
    assert torch.allclose(grad * kt(1.0) * each[:, None, None], well.k * x)
    check_target(target.at(each), x)
    with pytest.raises(InputError, match="-5"):
        target.at(-5.0)


def test_float32_input_gives_float64_energies_and_float32_gradients() -> None:
    u, grad = Boltzmann(GaussianWell(2), 300.0).u_and_grad(torch.rand(3, 2, 3))
    assert u.dtype == torch.float64
    assert grad.dtype == torch.float32


def test_a_wrong_gradient_is_caught() -> None:
    class Wrong(GaussianWell):
        def energy_and_force(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            energy, force = super().energy_and_force(x)
            return energy, -force

    with pytest.raises(AssertionError, match="slope"):
        check_target(Boltzmann(Wrong(2), 300.0), conformations(GaussianWell(2)))
