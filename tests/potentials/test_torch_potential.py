"""What only the torch engine has: chunks and second derivatives."""

import pytest
import torch
from molecules import molecule, noisy

from gibbsian.chem.parameters import extract
from gibbsian.potentials import TorchPotential


def test_chunks_do_not_matter() -> None:
    system, x = molecule("ALA-ALA-ALA", "amber14", "obc1", 0.8, 1.3)
    frames = torch.from_numpy(noisy(x, 50, 0.01))
    whole = TorchPotential(extract(system)).energy_and_force(frames)
    for chunk in (1, 7, 64, 4000):
        parts = TorchPotential(extract(system), chunk=chunk).energy_and_force(frames)
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-7)


@pytest.mark.parametrize("field", ["amber99sbildn", "charmm36"])
def test_second_derivative(field: str) -> None:
    system, x = molecule("ACE-ALA-NME", field, "amber99_obc" if field == "amber99sbildn" else "obc1")
    frames = torch.from_numpy(noisy(x, 2, 0.004)).requires_grad_()
    potential = TorchPotential(extract(system), differentiable=True)
    (gradient,) = torch.autograd.grad(potential.energy(frames).sum(), frames, create_graph=True)
    direction = torch.from_numpy(noisy(0 * x, 2, 1.0))
    (product,) = torch.autograd.grad((gradient * direction).sum(), frames)
    step = 1e-6
    ahead = potential.energy_and_force(frames.detach() + step * direction)[1]
    behind = potential.energy_and_force(frames.detach() - step * direction)[1]
    torch.testing.assert_close(product, (behind - ahead) / (2 * step), rtol=1e-4, atol=1.0)
