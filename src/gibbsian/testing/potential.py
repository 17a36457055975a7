"""Conformance suite of the Potential contract, for the package's engines and for a user's own."""

import math

import torch
from torch import Tensor

from gibbsian.potentials.base import Potential


def check_potential(
    potential: Potential,
    x: Tensor,
    *,
    rtol: float = 1e-5,
    step: float = 1e-5,
    seed: int = 0,
) -> None:
    """Check that `potential` keeps the contract.

    Parameters
    ----------
    potential
        What to check.
    x
        (B, n_atoms, 3) nm, a few ordinary conformations, B >= 2.
    rtol
        Tolerance, relative to the size of energies and to the root mean square force.
    step
        Displacement (nm) of the finite differences; take 1e-3 for a single-precision engine.
    seed
        Of the random directions and rotations.

    Raises
    ------
    AssertionError
        Naming what is violated.
    """
    assert x.ndim == 3, "x: expected (batch, n_atoms, 3)"
    assert x.shape[1] == potential.n_atoms, f"n_atoms: {potential.n_atoms}, but x has {x.shape[1]} atoms"
    generator = torch.Generator().manual_seed(seed)
    energy, force = potential.energy_and_force(x)
    assert energy.shape == (len(x),), f"energy: shape {tuple(energy.shape)}, expected ({len(x)},)"
    assert force.shape == x.shape, f"force: shape {tuple(force.shape)}, expected {tuple(x.shape)}"
    assert bool(torch.isfinite(energy).all()), "energy: not finite on ordinary conformations"
    assert not energy.requires_grad, "energy_and_force: must not carry a graph"
    scale = 1.0 + float(energy.abs().max())
    rms = float(force.double().square().mean().sqrt())
    _check_differences(potential, x, force, step, rtol * rms, generator)
    _check_invariance(potential, x, energy, force, rtol * scale, rtol * rms, generator)
    _check_batches(potential, x, energy, force, rtol * scale, rtol * rms)
    _check_gradient(potential, x, energy, force, rtol * scale, rtol * rms)
    _check_calls(potential, x)


def _check_differences(
    potential: Potential, x: Tensor, force: Tensor, step: float, tolerance: float, generator: torch.Generator
) -> None:
    """Compare forces with Richardson-extrapolated central differences along random directions."""
    for _ in range(4):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        slopes = []
        for h in (step, 2 * step):
            ahead = potential.energy_and_force(x + h * direction)[0].double()
            behind = potential.energy_and_force(x - h * direction)[0].double()
            slopes.append((ahead - behind) / (2 * h))
        numeric = (4 * slopes[0] - slopes[1]) / 3
        analytic = -(force * direction).double().sum((1, 2))
        # The sum over 3N random components grows like the root of their number.
        error = float((numeric - analytic).abs().max()) / math.sqrt(x[0].numel())
        assert error <= tolerance, f"force: differs from finite differences by {error:.3g} kJ/mol/nm per component"


def _check_invariance(
    potential: Potential,
    x: Tensor,
    energy: Tensor,
    force: Tensor,
    by_energy: float,
    by_force: float,
    generator: torch.Generator,
) -> None:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    rotation = (rotation * torch.linalg.det(rotation)).to(x)
    centre = x.mean((0, 1), keepdim=True)
    moved = (x - centre) @ rotation.T + torch.tensor([0.3, -0.2, 0.1]).to(x)
    moved_energy, moved_force = potential.energy_and_force(moved)
    error = float((moved_energy - energy).abs().max())
    assert error <= by_energy, f"energy: changes by {error:.3g} kJ/mol under rotation and translation"
    error = float((moved_force - force @ rotation.T).abs().max())
    assert error <= 10 * by_force, f"force: does not turn with the molecule, error {error:.3g} kJ/mol/nm"
    total = float(force.double().sum(1).abs().max())
    assert total <= 100 * by_force, f"force: the total is {total:.3g} kJ/mol/nm, not zero"


def _check_batches(
    potential: Potential, x: Tensor, energy: Tensor, force: Tensor, by_energy: float, by_force: float
) -> None:
    """Each conformation alone, in a large batch, and next to broken ones."""
    alone = potential.energy_and_force(x[:1])
    assert float((alone[0] - energy[:1]).abs()) <= by_energy, "energy: depends on the rest of the batch"
    repeats = 700 // len(x) + 1
    many_energy, many_force = potential.energy_and_force(x.repeat(repeats, 1, 1))
    error = float((many_energy - energy.repeat(repeats)).abs().max())
    assert error <= by_energy, f"energy: differs by {error:.3g} kJ/mol in a large batch"
    error = float((many_force - force.repeat(repeats, 1, 1)).abs().max())
    assert error <= by_force, f"force: differs by {error:.3g} kJ/mol/nm in a large batch"
    broken = torch.cat([x, x[:1], x[:1]])
    broken[len(x), 0, 0] = torch.nan
    broken[len(x) + 1] = broken[len(x) + 1, :1]
    broken_energy, broken_force = potential.energy_and_force(broken)
    error = float((broken_energy[: len(x)] - energy).abs().max())
    assert error <= by_energy, "energy: a NaN conformation disturbs others"
    error = float((broken_force[: len(x)] - force).abs().max())
    assert error <= by_force, "force: a NaN conformation disturbs others"
    assert not bool(broken_energy.isnan().any()), "energy: NaN; what is not a number must be inf"
    assert bool(torch.isfinite(broken_force).all()), "force: not finite for broken conformations"
    assert not bool(torch.isfinite(broken_energy[len(x)])), "energy: finite for NaN coordinates"
    empty_energy, empty_force = potential.energy_and_force(x[:0])
    assert empty_energy.shape == (0,), "energy: an empty batch must give an empty result"
    assert empty_force.shape == x[:0].shape, "force: an empty batch must give an empty result"


def _check_gradient(
    potential: Potential, x: Tensor, energy: Tensor, force: Tensor, by_energy: float, by_force: float
) -> None:
    leaf = x.detach().clone().requires_grad_()
    value = potential.energy(leaf)
    error = float((value.detach() - energy).abs().max())
    assert error <= by_energy, f"energy: differs from energy_and_force by {error:.3g} kJ/mol"
    weights = torch.linspace(0.5, 2.0, len(x)).to(value)
    (gradient,) = torch.autograd.grad((value * weights).sum(), leaf)
    error = float((gradient + force * weights[:, None, None].to(force)).abs().max())
    assert error <= 2 * by_force, f"energy: its gradient is not minus the force, error {error:.3g} kJ/mol/nm"


def _check_calls(potential: Potential, x: Tensor) -> None:
    before = potential.calls
    potential.energy_and_force(x)
    potential.energy(x)
    counted = potential.calls - before
    assert counted == 2 * len(x), f"calls: counted {counted} for {2 * len(x)} conformations"
