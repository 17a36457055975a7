"""Reduced energies tamed for losses. Training only: weights always use the true energy."""

import torch
from torch import Tensor


def regularise(u: Tensor, u_hi: float = 1e8, u_max: float = 1e20) -> Tensor:
    """Replace the steep part of a reduced energy by its logarithm.

    ``u`` up to `u_hi`, then ``u_hi + log(1 + u - u_hi)``, constant without a gradient from `u_max` on; what is not
    finite stays so, for the caller to drop and count.

    Parameters
    ----------
    u
        (B,) reduced energies in kT.
    u_hi, u_max
        Thresholds in kT.

    Returns
    -------
    Tensor
        (B,), differentiable.
    """
    excess = (u.clamp(max=u_max) - u_hi).clamp(min=0.0)
    tamed = torch.where(u > u_hi, u_hi + torch.log1p(excess), u)
    return torch.where(torch.isfinite(u), tamed, u)
