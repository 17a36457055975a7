"""Losses of a batch that may be divided over processes, and the reverse divergence with tamed energies."""

import math

import torch
from torch import Tensor

from gibbsian.parallel.group import total
from gibbsian.potentials.regularise import regularise

U_HIGH = 1e3
"""Reduced energy above which its logarithm is reported, far above what thermal motion reaches."""
STEEPEST = 1250.0
"""Largest slope of a reduced energy, 1/nm per root of the number of atoms: twice the thermal one of any molecule."""


def mean_loss(losses: Tensor) -> Tensor:
    """Mean of the losses (B,) over the conformations inside the support of the model, where they are finite.

    With several processes: this one's share of the mean over all of them; the shares add up to it.
    """
    inside = torch.isfinite(losses)
    return torch.where(inside, losses, 0.0).sum() / total(inside.sum()).clamp_min(1)


def pull(log_q: Tensor, teacher: Tensor) -> Tensor:
    """Penalty 0.5 (log q - log q_teacher)^2 for leaving a teacher, (B,); inf where either has no density."""
    return torch.where(torch.isfinite(teacher), 0.5 * (log_q - teacher).square(), torch.inf)


def gentle(u: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
    """Reduced energies (B,), tamed in value, that pull at `x` (B, n_atoms, 3) with their gradient, but bounded.

    Each conformation pulls at most twice as hard as in thermal motion. Unbounded, a few clashes decide about the whole
    step; the logarithm of the energy instead pulls so little that a flow would rather spread out.
    """
    most = STEEPEST * math.sqrt(x.shape[1])
    size = torch.linalg.vector_norm(gradient, dim=(1, 2), keepdim=True)
    slope = torch.where(torch.isfinite(size), gradient * (most / size.clamp_min(most)), 0.0)
    return regularise(u, u_hi=U_HIGH) + (slope * (x - x.detach())).sum((1, 2))


def reverse_kl(u: Tensor, log_q: Tensor, drop: int) -> Tensor:
    """Mean of ``u(x) + log q(x)`` over generated conformations, without the `drop` highest energies.

    It equals KL(q || p) - log Z up to what taming and dropping change. Conformations whose energy or density
    is not finite are left out.
    """
    finite = torch.isfinite(u) & torch.isfinite(log_q)
    order = torch.argsort(torch.where(finite, u, torch.inf).detach())
    kept = order[: max(1, min(len(u) - drop, int(finite.sum())))]
    return (u[kept] + log_q[kept]).mean()
