"""Conformance of a sampler of weighted conformations, in one call, on a mixture whose log Z is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.models.base import SamplingProposal
from gibbsian.sampling.bridge import Bridge, Particles, ProposalEnergy
from gibbsian.sampling.schedule import coefficients
from gibbsian.targets.base import Target
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toy_proposals import Bent, BentTarget, DriftingPair, LoosePair
from gibbsian.testing.toys import DoubleWell, GaussianMixture
from gibbsian.units import kt

Sampler = Callable[[SamplingProposal, Target, int, int], Ensemble]
"""(proposal, target, n, seed) -> weighted ensemble."""
Moves = Callable[[Particles, Bridge, float, torch.Generator], Particles]
"""(particles, bridge, t, generator) -> particles after some moves at t of the linear path."""


@dataclass(eq=False)
class MixtureProposal:
    """Proposal that samples a `GaussianMixture` exactly; with the mixture as target it is ideal.

    Attributes
    ----------
    mixture
        What it samples; its `weights` must sum to one.
    """

    mixture: GaussianMixture

    def __post_init__(self) -> None:
        self.n_atoms = self.mixture.n_atoms

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` exact samples (n, 1, 3), float64, and their log density (n,)."""
        x = self.mixture.sample(n, generator).double()
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, 1, 3), (B,)."""
        return -self.mixture._energy(x).double() / kt(self.mixture.temperature)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient (B, 1, 3)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.log_prob(leaf)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), grad

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero: the target sees everything."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)


@dataclass(eq=False)
class Stray(MixtureProposal):
    """A proposal of which the first draw of every batch has no finite coordinates."""

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` samples (n, 1, 3) and their log density (n,)."""
        x, log_q = super().sample(n, generator)
        x[0] = torch.nan
        return x, log_q


@dataclass(eq=False)
class SamplingOnly:
    """A proposal without a density, which samplers that need one must refuse."""

    inner: MixtureProposal

    def __post_init__(self) -> None:
        self.n_atoms = self.inner.n_atoms

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, None]:
        """Draw `n` conformations (n, n_atoms, 3) without log q."""
        return self.inner.sample(n, generator)[0], None


@dataclass(eq=False)
class Broken:
    """A target of which every conformation with x > `wall` has an infinite energy."""

    target: Target
    wall: float

    def __post_init__(self) -> None:
        self.n_atoms = self.target.n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy, infinite beyond the wall."""
        return self._walled(x, self.target.u(x))

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy and gradient, infinite and zero beyond the wall."""
        u, grad = self.target.u_and_grad(x)
        u = self._walled(x, u)
        return u, torch.where(torch.isfinite(u)[:, None, None], grad, 0.0)

    def _walled(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where(x[:, 0, 0] > self.wall, torch.inf, u)


def mixture_target(share: float = 0.2, log_z: float = 2.0) -> tuple[GaussianMixture, Boltzmann]:
    """Two-mode mixture in 3 dimensions with `share` of it at positive x, and the target with that log Z."""
    weights = torch.tensor([1 - share, share]) * math.exp(log_z)
    mixture = GaussianMixture(weights=weights)
    return mixture, Boltzmann(mixture, mixture.temperature)


def broad_proposal() -> MixtureProposal:
    """Proposal wider than `mixture_target` and with the wrong populations: bounded, unequal weights."""
    return MixtureProposal(GaussianMixture(weights=torch.tensor([0.5, 0.5]), width=0.12))


def check_sampler(sampler: Sampler, n: int = 4000, seed: int = 0) -> None:
    """Check a sampler that weights the draws of a proposal; AssertionError says what fails.

    An ideal proposal gives ESS n and the known log Z; an imperfect one the same log Z and populations within
    five standard errors; equal seeds equal results; walls get weight zero without an exception; a
    proposal without a density is refused with an error that names it.

    Parameters
    ----------
    sampler
        (proposal, target, n, seed) -> Ensemble.
    n
        Samples per check.
    """
    share, log_z = 0.2, 2.0
    _, target = mixture_target(share, log_z)
    ideal = MixtureProposal(GaussianMixture(weights=torch.tensor([1 - share, share])))
    perfect = sampler(ideal, target, n, seed)
    assert len(perfect) == n, f"{len(perfect)} samples instead of {n}"
    assert perfect.ess > (1 - 1e-4) * n, f"an ideal proposal gave ESS {perfect.ess:.1f} of {n}"
    assert abs(perfect.log_z.value - log_z) < 1e-3, f"an ideal proposal gave log Z {perfect.log_z.value:.4f}"
    rough = sampler(broad_proposal(), target, n, seed)
    value, error = rough.log_z
    assert 0 < error < 0.2, f"log Z has error {error}"
    assert abs(value - log_z) < 5 * error, f"log Z {value:.4f} +- {error:.4f}, exact {log_z}"
    right, spread = rough.expectation(lambda x: x[:, 0, 0] > 0)
    assert abs(right - share) < 5 * spread + 1e-3, f"population {right:.4f} +- {spread:.4f}, exact {share}"
    again = sampler(broad_proposal(), target, n, seed)
    assert np.array_equal(rough.log_w, again.log_w), "equal seeds gave different weights"
    assert np.array_equal(rough.positions, again.positions), "equal seeds gave different positions"
    other = sampler(broad_proposal(), target, n, seed + 1)
    assert not np.array_equal(rough.log_w, other.log_w), "another seed gave the same samples"
    _check_walls(sampler, target, n, seed)
    _check_refusal(sampler, target, n, seed)


def _check_walls(sampler: Sampler, target: Target, n: int, seed: int) -> None:
    walled = sampler(broad_proposal(), Broken(target, 0.0), n, seed)
    beyond = walled.positions[:, 0, 0] > 1e-6
    assert (walled.weights[beyond] == 0).all(), "samples of infinite energy carry weight"
    value, error = walled.log_z
    exact = 2.0 + math.log(0.8)
    assert abs(value - exact) < 5 * error + 3e-3, f"log Z behind a wall {value:.4f}, exact {exact:.4f}"


def _check_refusal(sampler: Sampler, target: Target, n: int, seed: int) -> None:
    try:
        sampler(SamplingOnly(broad_proposal()), target, n, seed)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert "SamplingOnly" in message, "a proposal without a density was not refused by name"


def check_log_z(sampler: Sampler, n: int = 2000, seed: int = 0, sigmas: float = 4.0) -> None:
    """Check log Z and a population on two toys that the proposal fits badly; AssertionError says what fails.

    A mixture of two Gaussians, and two atoms in a double well without and with a density of their centroid, all with a
    known log Z. A sampler fails that leaves out the last increment of an annealed path, forgets what resampling took
    out of the weights, or the gauge.

    Parameters
    ----------
    sampler
        (proposal, target, n, seed) -> Ensemble with the error of log Z; it gets molecules of one and of two atoms.
    n, seed, sigmas
        Samples, their seed, and the allowed deviation in standard errors.
    """
    _, mixture = mixture_target()
    well = DoubleWell()
    double = Boltzmann(well, 300.0)
    cases = (
        ("mixture", broad_proposal(), mixture, 2.0, 0.2, lambda x: x[:, 0, 0] > 0),
        ("double well", LoosePair(), double, well.log_z(300.0), well.population(300.0), _far),
        ("double well with a gauge", DriftingPair(), double, well.log_z(300.0), well.population(300.0), _far),
    )
    for name, proposal, target, exact, share, inside in cases:
        ensemble = sampler(proposal, target, n, seed)
        value, error = ensemble.log_z
        assert 0 < error < 0.3, f"{name}: log Z has error {error}"
        assert abs(value - exact) < sigmas * error, f"{name}: log Z {value:.4f} +- {error:.4f}, exact {exact:.4f}"
        found, spread = ensemble.expectation(inside)
        assert abs(found - share) < sigmas * spread, (
            f"{name}: population {found:.4f} +- {spread:.4f}, exact {share:.4f}"
        )


def check_kernel(moves: Moves, n: int = 20_000, seed: int = 0, sigmas: float = 4.0) -> None:
    """Check that moves leave an intermediate level invariant, on a curved proposal; AssertionError says what fails.

    Particles that follow the level t = 0.6 already (by resampling draws of the proposal) are moved, and must still have
    E[x2] = 0.357 and E[x2^2] = 1.813 (quadrature) within `sigmas` standard errors.

    Parameters
    ----------
    moves
        Applies enough moves to show an error; fifty are.
    n, seed
        Particles and their seed.
    """
    t, proposal = 0.6, Bent()
    bridge = Bridge(ProposalEnergy(proposal), BentTarget())
    generator = torch.Generator().manual_seed(seed)
    x, log_q = proposal.sample(4 * n, generator)
    first = bridge.with_log_q(x, log_q)
    weights = torch.softmax(first.u0 - first.energy(coefficients(t)), 0)
    first = first.take(torch.multinomial(weights, n, replacement=True, generator=generator))
    last = moves(first, bridge, t, generator)
    moved = (last.x != first.x).any(-1).any(-1).double().mean()
    assert float(moved) > 0.9, f"only {float(moved):.0%} of the particles moved"
    again = bridge.evaluate(last.x, gradients=False)
    worst = max(float((again.u0 - last.u0).abs().max()), float((again.u1 - last.u1).abs().max()))
    assert worst < 1e-6, f"energies that are kept with the particles are wrong by {worst:.1e}"
    height = last.x[:, 0, 1]
    for name, values, exact in (("E[x2]", height, 0.357), ("E[x2^2]", height.square(), 1.813)):
        error = float(values.std()) / math.sqrt(n)
        assert abs(float(values.mean()) - exact) < sigmas * error + 5e-4, (
            f"{name} = {float(values.mean()):.4f} +- {error:.4f} after the moves, exact {exact}"
        )


def _far(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, 0] - x[:, 1], axis=1) > DoubleWell().centre
