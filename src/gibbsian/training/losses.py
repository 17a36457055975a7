"""Losses of a batch that may be divided over processes, and the reverse divergence with regularised energies."""

import torch
from torch import Tensor

from gibbsian.parallel.group import total
from gibbsian.potentials.regularise import regularise

U_HIGH = 1e3
"""Reduced energy above which its logarithm enters the gradient: far above what thermal motion reaches."""


def mean_loss(losses: Tensor) -> Tensor:
    """Mean of the losses (B,) over the conformations inside the support of the model, where they are finite.

    With several processes: this one's share of the mean over all of them; the shares add up to it.
    """
    inside = torch.isfinite(losses)
    return torch.where(inside, losses, 0.0).sum() / total(inside.sum()).clamp_min(1)


def pull(log_q: Tensor, teacher: Tensor) -> Tensor:
    """Penalty 0.5 (log q - log q_teacher)^2 for leaving a teacher, (B,); inf where either has no density."""
    return torch.where(torch.isfinite(teacher), 0.5 * (log_q - teacher).square(), torch.inf)


def reverse_kl(u: Tensor, log_q: Tensor, drop: int) -> Tensor:
    """Mean of ``u_reg(x) + log q(x)`` over generated conformations, without the `drop` highest energies.

    It equals KL(q || p) - log Z up to what regularisation and dropping change. Conformations whose energy or density
    is not finite are left out.
    """
    finite = torch.isfinite(u) & torch.isfinite(log_q)
    order = torch.argsort(torch.where(finite, u, torch.inf).detach())
    kept = order[: max(1, min(len(u) - drop, int(finite.sum())))]
    return (regularise(u[kept], u_hi=U_HIGH) + log_q[kept]).mean()
