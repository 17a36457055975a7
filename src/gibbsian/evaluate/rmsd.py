"""RMSD of all pairs of conformations after superposition, without superposing any.

With C the covariance of two centred conformations, the least sum of squares is G_x + G_y - 2 lambda, where lambda, the
largest root of a quartic polynomial, is s_1 + s_2 + sign(det C) s_3 of the singular values (Theobald, Acta Cryst. A61,
478 (2005)).
"""

import torch
from torch import Tensor

from gibbsian.coords.gauge import centred

_ROUNDS = 60


def rmsd_matrix(x: Tensor, y: Tensor) -> Tensor:
    """RMSD (n, m) between every one of `x` (n, a, 3) and every one of `y` (m, a, 3), same unit; float64 is needed."""
    x, y = centred(x), centred(y)
    # Components first: what follows works entry by entry.
    covariance = torch.einsum("nai,maj->ijnm", x, y)
    return _rmsd(covariance, x.square().sum((1, 2))[:, None] + y.square().sum((1, 2)), x.shape[1])


def rmsd_pairs(x: Tensor, y: Tensor) -> Tensor:
    """RMSD (n,) between `x` (n, a, 3) and `y` (n, a, 3) or (a, 3)."""
    x, y = centred(x), centred(y)
    covariance = torch.einsum("nai,naj->ijn", x, y.expand_as(x))
    return _rmsd(covariance, x.square().sum((1, 2)) + y.square().sum((-1, -2)), x.shape[1])


def _rmsd(c: Tensor, squares: Tensor, n_atoms: int) -> Tensor:
    """RMSD from covariances (3, 3, ...) and the sum of both squared norms (...)."""
    top = (squares / 2).clamp_min(1e-300)
    lam = _largest_root(c / top)
    return torch.sqrt((squares - 2 * top * lam).clamp_min(0) / n_atoms)


def _largest_root(c: Tensor) -> Tensor:
    """Largest root (...) of the quartic, for covariances (3, 3, ...) scaled so that it is at most one.

    Newton's method from above: monotone, since the polynomial is convex beyond its largest root.
    """
    norms = c.square().sum(1)
    trace = norms.sum(0)
    overlaps = [(c[i] * c[j]).sum(0) for i, j in ((0, 1), (0, 2), (1, 2))]
    gram = norms.square().sum(0) + 2 * sum(overlap.square() for overlap in overlaps)
    c2, c1, c0 = -2 * trace, -8 * (c[0] * torch.linalg.cross(c[1], c[2], dim=0)).sum(0), 2 * gram - trace.square()
    lam = torch.ones_like(trace)
    for _ in range(_ROUNDS):
        value = ((lam * lam + c2) * lam + c1) * lam + c0
        slope = (4 * lam * lam + 2 * c2) * lam + c1
        step = torch.where(slope > 0, value / slope.clamp_min(1e-300), 0.0).clamp_min(0)
        lam = lam - step
        if bool((step < 1e-13).all()):
            break
    return lam
