"""Draws for the next fit: plain ones of the flow, or ones annealed to p^2 / q."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gibbsian.models.base import Proposal
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended
from gibbsian.training.annealing.settings import Annealing
from gibbsian.training.improve import draw_own
from gibbsian.training.trainable import Trainable


@dataclass(frozen=True, eq=False)
class Drawn:
    """Conformations of one step.

    Attributes
    ----------
    x
        (n, n_atoms, 3) nm, float32.
    log_q, log_p
        (n,) densities of `x` under the flow and, without its constant, the target.
    log_w
        (n,) log weights for p^2 / q; None for plain draws.
    calls
        Energy evaluations that they took.
    """

    x: Tensor
    log_q: Tensor
    log_p: Tensor
    log_w: Tensor | None
    calls: int


class PullAway:
    """Target p^2 / q, with the energy 2 u + log q: it has most weight where the flow lacks it."""

    def __init__(self, target: Target, proposal: Proposal) -> None:
        self.target, self.proposal, self.n_atoms = target, proposal, target.n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Energy (B,) of `x` (B, N, 3) nm; inf where that of the target or the density is not finite."""
        return _finite(2.0 * self.target.u(x) + self.proposal.log_prob(x))

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) and its gradient (B, N, 3) 1/nm."""
        u, grad = self.target.u_and_grad(x)
        log_q, log_q_grad = self.proposal.log_prob_and_grad(x)
        return _finite(2.0 * u + log_q), 2.0 * grad + log_q_grad


def _finite(u: Tensor) -> Tensor:
    return torch.where(torch.isfinite(u), u, torch.inf)


def draw_plain(model: Trainable, target: Extended, n: int, seed: int) -> Drawn:
    """Draw `n` conformations of the flow and evaluate their energies."""
    x, log_q, u = draw_own(model, n, target, seed)
    return Drawn(x, log_q, -u, None, n)


def draw_annealed(model: Trainable, target: Extended, temperature: float, settings: Annealing, seed: int) -> Drawn:
    """Draw conformations, anneal them to p^2 / q without resampling, and weight them (arXiv 2208.01893).

    Hamiltonian moves with a Metropolis test leave each level as it is, so the weights are exact.
    """
    dense = cast("Proposal", model)
    annealed = SmcSettings(
        kernel="hmc", moves=settings.moves, regen=None, levels=settings.levels, conditional_ess=None, threshold=0.0
    )

    def without_gauge(x: Tensor) -> Tensor:
        return -model.log_gauge(x)

    found = sample_smc(
        dense,
        # The sampler adds the gauge of the flow to what it is given; `target` has it already.
        Extended(PullAway(target, dense), without_gauge),
        settings.samples,
        topology=model.topology,
        temperature=temperature,
        settings=annealed,
        seed=seed,
    )
    x, log_w = torch.from_numpy(found.positions), torch.from_numpy(found.log_w)
    assert found.u is not None
    assert found.log_q is not None
    log_q = torch.from_numpy(found.log_q)
    energy = torch.from_numpy(found.u) - model.log_gauge(x).double()
    return Drawn(x, log_q, -0.5 * (energy - log_q), log_w, int(found.provenance["energy_calls"]))
