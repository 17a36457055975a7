import math

import pytest
import torch

from gibbsian.testing.toys import DoubleWell, GaussianMixture, GaussianWell, HarmonicMolecule, Toy
from gibbsian.units import kt


def log_z_by_importance(toy: Toy, dimensions: int, width: float, temperature: float) -> float:
    """Mean-free importance sampling with a Gaussian of the given width in orthonormal coordinates."""
    generator = torch.Generator().manual_seed(0)
    x = width * torch.randn(200_000, toy.n_atoms, 3, dtype=torch.float64, generator=generator)
    if dimensions < 3 * toy.n_atoms:
        x = x - x.mean(1, keepdim=True)
    log_q = -0.5 * x.square().sum((1, 2)) / width**2 - dimensions * math.log(width * math.sqrt(2 * math.pi))
    log_w = -toy.energy(x) / kt(temperature) - log_q
    return float(torch.logsumexp(log_w, 0)) - math.log(len(x))


@pytest.mark.physics
@pytest.mark.parametrize("temperature", [300.0, 500.0])
def test_log_z_of_each_toy(temperature: float) -> None:
    well, molecule, double = GaussianWell(2), HarmonicMolecule(4), DoubleWell()
    assert log_z_by_importance(well, 6, 0.07, temperature) == pytest.approx(well.log_z(temperature), abs=0.03)
    assert log_z_by_importance(molecule, 9, 0.05, temperature) == pytest.approx(molecule.log_z(temperature), abs=0.05)
    assert log_z_by_importance(double, 3, 0.2, temperature) == pytest.approx(double.log_z(temperature), abs=0.03)


@pytest.mark.physics
def test_mixture_samples_have_its_density() -> None:
    mixture = GaussianMixture()
    assert mixture.log_z() == pytest.approx(0.0, abs=1e-6)
    assert log_z_by_importance(mixture, 3, 0.3, mixture.temperature) == pytest.approx(0.0, abs=0.03)
    x = mixture.sample(20_000, torch.Generator().manual_seed(1))
    assert float((x[:, 0, 0] > 0).double().mean()) == pytest.approx(0.2, abs=0.02)


def test_double_well_populations_shift_with_temperature() -> None:
    well = DoubleWell()
    assert 0.05 < well.population(300.0) < well.population(900.0) < 0.9
