"""What only the torch engine has: chunks, and second derivatives."""

import pytest
import torch
from molecules import molecule, noisy

from gibbsian.chem.parameters import extract
from gibbsian.errors import OutOfMemoryError
from gibbsian.potentials import TorchPotential
from gibbsian.potentials.torch.workspace import Workspace


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


def test_out_of_memory_halves_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for three conformations at a time, of which the second attempt of five leaves two and two and one."""
    system, x = molecule("ACE-ALA-NME")
    frames = torch.from_numpy(noisy(x, 5, 0.01))
    expected = TorchPotential(extract(system)).energy_and_force(frames)
    potential = TorchPotential(extract(system))
    space, tried, room = potential._space, [], 3

    def limited(batch: int) -> Workspace:
        tried.append(batch)
        if batch > room:
            raise torch.OutOfMemoryError
        return space(batch)

    monkeypatch.setattr(potential, "_space", limited)
    result = potential.energy_and_force(frames)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-7)
    assert tried == [5, 2, 2, 1]
    assert potential.chunk == 2
    room = 0
    with pytest.raises(OutOfMemoryError, match="single conformation"):
        potential.energy_and_force(frames)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the compiler's own imports
def test_plain_energy_compiles_as_one_graph() -> None:
    system, x = molecule("ACE-ALA-NME")
    frames = torch.from_numpy(noisy(x, 8, 0.004)).requires_grad_()
    plain = TorchPotential(extract(system), differentiable=True).plain
    assert plain is not None
    energy = torch.compile(plain, fullgraph=True)(frames)
    (gradient,) = torch.autograd.grad(energy.sum(), frames)
    expected, force = TorchPotential(extract(system)).energy_and_force(frames)
    torch.testing.assert_close(energy, expected)
    torch.testing.assert_close(-gradient, force, rtol=1e-7, atol=1e-7)
