"""Conformance of a generator, in one call."""

import math

import torch
from torch import Tensor

from gibbsian.models.base import LatentProposal, Proposal, SamplingProposal
from gibbsian.targets.base import Target


def check_proposal(
    proposal: SamplingProposal, n: int = 64, seed: int = 0, tolerance: float = 1e-3, step: float = 1e-5
) -> None:
    """Check the `Proposal` contract; AssertionError says what fails.

    Shapes and types; equal samples from equal seeds; log q of a sample against `log_prob` of its coordinates;
    `log_prob_and_grad` against central finite differences; shape of `log_gauge`; latent variables, where the proposal
    offers them, against conformations and log q. Of a sampling-only proposal, only
    its samples, and that its log q is None.

    Parameters
    ----------
    proposal
        What to check.
    n, seed
        Conformations drawn and their seed.
    tolerance
        On log q, and on slopes relative to the gradient's norm.
    step
        Length of the finite difference, nm. The model is taken as float64 where it is a `torch.nn.Module`.
    """
    x, log_q = proposal.sample(n, torch.Generator().manual_seed(seed))
    assert x.shape == (n, proposal.n_atoms, 3), f"samples have shape {tuple(x.shape)}"
    assert bool(torch.isfinite(x).all()), "samples are not finite"
    again, _ = proposal.sample(n, torch.Generator().manual_seed(seed))
    assert torch.equal(x, again), "equal seeds give different samples"
    other, _ = proposal.sample(n, torch.Generator().manual_seed(seed + 1))
    assert not torch.equal(x, other), "the generator is ignored"
    if not isinstance(proposal, Proposal):
        assert log_q is None, "a proposal without log_prob must return None for log q"
        return
    assert log_q is not None, "a proposal with log_prob must return log q"
    assert log_q.shape == (n,), f"log q has shape {tuple(log_q.shape)}"
    assert log_q.dtype == torch.float64, f"log q is {log_q.dtype}"
    with torch.no_grad():
        error = float((proposal.log_prob(x) - log_q).abs().max())
    assert error < tolerance, f"log q of samples and log_prob differ by {error:.1e}"
    assert proposal.log_gauge(x).shape == (n,), "log_gauge must have shape (B,)"
    _check_gradient(proposal, x, tolerance, step)
    if isinstance(proposal, LatentProposal):
        _check_latent(proposal, x, tolerance)


def _check_latent(proposal: LatentProposal, x: Tensor, tolerance: float) -> None:
    circular = proposal.latent_circular()
    assert circular.dtype == torch.bool, "latent_circular must be a mask"
    z = proposal.to_latent(x)
    assert z.shape == (len(x), len(circular)), f"latent variables have shape {tuple(z.shape)}"
    assert z.dtype == torch.float64, f"latent variables are {z.dtype}"
    turns, normal = z[:, circular], z[:, ~circular]
    assert bool(((turns >= 0) & (turns <= 1)).all()), "latent variables on the circle leave [0, 1]"
    assert abs(float(normal.square().mean()) - 1) < 6 * (2 / normal.numel()) ** 0.5, "latent variables are not normal"
    again, log_q_again = proposal.from_latent(z)
    # Distances, because a model may choose another orientation.
    error = float((torch.cdist(again, again) - torch.cdist(x.double(), x.double())).abs().max())
    assert error < tolerance, f"conformations of latent variables are wrong by {error:.1e} nm"
    error = float((log_q_again - proposal.log_prob(again)).detach().abs().max())
    assert error < tolerance, f"log q of from_latent and log_prob differ by {error:.1e}"
    broken = z.clone()
    broken[0] = torch.nan
    lost, log_q_lost = proposal.from_latent(broken)
    assert not torch.isfinite(log_q_lost[0]), "latent variables that are not numbers must have no density"
    assert torch.isfinite(lost[1:]).all(), "one broken sample must not touch the others"


def _check_gradient(proposal: Proposal, x: Tensor, tolerance: float, step: float) -> None:
    x = x.double()
    log_q, grad = proposal.log_prob_and_grad(x)
    assert grad.shape == x.shape, f"gradient has shape {tuple(grad.shape)}"
    assert not log_q.requires_grad, "log_prob_and_grad must not return a graph"
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    direction = direction / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
    with torch.no_grad():
        slope = (proposal.log_prob(x + step * direction) - proposal.log_prob(x - step * direction)) / (2 * step)
    scale = 1.0 + torch.linalg.vector_norm(grad, dim=(1, 2))
    error = ((grad * direction).sum((1, 2)) - slope).abs() / scale
    # The median: splines have kinks in the slope at their knots, which single differences may straddle.
    assert float(error.median()) < tolerance, f"gradient: relative slope error {float(error.median()):.1e}"


def check_normalisation(
    proposal: Proposal, target: Target, log_z: float, n: int = 4096, seed: int = 0, sigmas: float = 5.0
) -> None:
    """Check E_q[exp(-u) / q] = Z on a target with known log Z, which needs the whole constant of log q.

    Parameters
    ----------
    proposal, target
        A proposal whose support covers the target's, and close enough for finite weights.
    log_z
        In the measure of the proposal (mean-free orthonormal, nm, for internal coordinates).
    n, seed, sigmas
        Samples, their seed, and the allowed deviation in standard errors.
    """
    x, log_q = proposal.sample(n, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        log_w = -(target.u(x) - proposal.log_gauge(x)) - log_q - log_z
    w = torch.exp(log_w)
    error = float(w.std()) / math.sqrt(n)
    assert abs(float(w.mean()) - 1.0) < sigmas * error, (
        f"E[w]/Z = {float(w.mean()):.4f} +- {error:.4f}: log q is not normalised in the measure of log Z"
    )
