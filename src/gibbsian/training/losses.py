"""Losses: negative log likelihood, and reverse Kullback-Leibler divergence with regularised energies."""

import torch
from torch import Tensor

U_HIGH = 1e3
U_MAX = 1e20


def nll(log_q: Tensor) -> Tensor:
    """Mean negative log likelihood in nats, over the frames inside the support of the flow."""
    inside = torch.isfinite(log_q)
    return -torch.where(inside, log_q, 0.0).sum() / inside.sum().clamp_min(1)


def regularised(u: Tensor, high: float = U_HIGH, highest: float = U_MAX) -> Tensor:
    """Reduced energy for gradients only: logarithmic above `high`, constant above `highest` and where not finite.

    ``u`` up to `high`; ``high + log(1 + u - high)`` up to `highest`. Weights always use the energy itself.
    """
    safe = torch.nan_to_num(u, nan=highest, posinf=highest).clamp_max(highest)
    return torch.where(safe <= high, safe, high + torch.log1p((safe - high).clamp_min(0.0)))


def reverse_kl(u: Tensor, log_q: Tensor, drop: int) -> Tensor:
    """Mean of ``u_reg(x) + log q(x)`` over generated conformations, without the `drop` highest energies.

    It equals KL(q || p) - log Z up to what regularisation and dropping change. Conformations whose energy or density
    is not finite are left out.
    """
    finite = torch.isfinite(u) & torch.isfinite(log_q)
    order = torch.argsort(torch.where(finite, u, torch.inf).detach())
    kept = order[: max(1, min(len(u) - drop, int(finite.sum())))]
    return (regularised(u[kept]) + log_q[kept]).mean()
