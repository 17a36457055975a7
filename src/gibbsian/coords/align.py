"""Superposition of batches of conformations (Kabsch, Acta Cryst. A32, 922, 1976)."""

import torch
from torch import Tensor

from gibbsian.coords.gauge import centred


def superpose(x: Tensor, reference: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Move `x` (B, n, 3) onto `reference` (n, 3) or (B, n, 3) by rotation and translation.

    Parameters
    ----------
    weights
        (n,) weights of the atoms in the fit, e.g. 1 for the backbone and 0 else; all equal by default.

    Returns
    -------
    moved
        (B, n, 3) superposed conformations, in the frame of the reference.
    rmsd
        (B,) weighted root-mean-square deviation, same unit as `x`.
    """
    w = torch.ones(x.shape[-2], dtype=x.dtype, device=x.device) if weights is None else weights.to(x.dtype)
    w = (w / w.sum())[:, None]
    centre_x, centre_r = (w * x).sum(-2, keepdim=True), (w * reference).sum(-2, keepdim=True)
    a, b = x - centre_x, (reference - centre_r).expand_as(x)
    u, _, vt = torch.linalg.svd((w * a).transpose(-1, -2) @ b)
    handed = torch.ones(*u.shape[:-1], dtype=x.dtype, device=x.device)
    handed[..., 2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotated = a @ ((u * handed[..., None, :]) @ vt)
    rmsd = torch.sqrt((w * (rotated - b).square()).sum((-1, -2)))
    return rotated + centre_r, rmsd


def rmsd(x: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """Root-mean-square deviation (B,) after superposition."""
    return superpose(centred(x), reference, weights)[1]
