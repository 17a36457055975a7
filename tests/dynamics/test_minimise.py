import torch

from gibbsian.dynamics.minimise import minimise
from gibbsian.testing.toys import DoubleWell, GaussianWell


def test_every_conformation_reaches_its_own_minimum() -> None:
    well = DoubleWell(tilt=0.0)
    x = torch.zeros(2, 2, 3, dtype=torch.float64)
    x[0, 1, 0], x[1, 1, 1] = 0.25, 0.65
    relaxed, energy = minimise(x, well, n_steps=300)
    distance = torch.linalg.vector_norm(relaxed[:, 0] - relaxed[:, 1], dim=-1)
    assert torch.allclose(distance, torch.tensor([0.3, 0.5], dtype=torch.float64), atol=1e-3)
    assert (energy < 1e-3).all()


def test_energy_never_rises_and_moves_are_bounded() -> None:
    x = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0))
    well = GaussianWell(3, k=1e7)  # far too stiff for the first step length
    relaxed, energy = minimise(x, well, n_steps=20, max_step=0.005)
    assert (energy <= well.energy(x).double()).all()
    assert torch.linalg.vector_norm(relaxed - x, dim=-1).max() <= 20 * 0.005 * 1.001
