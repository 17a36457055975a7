"""Weights of frames from several temperatures towards one of them (MBAR)."""

import torch
from torch import Tensor

from gibbsian.errors import GibbsianError

_ITERATIONS, _TOLERANCE = 200, 1e-9


def temperature_weights(energy: Tensor, counts: Tensor, betas: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """MBAR log weights at `beta` of frames drawn at several temperatures.

    The reduced energy is beta U for every state, so U alone decides the weights
    (J. Chem. Phys. 129, 124105 (2008), eq. 11 and 13)::

        f_k = -ln sum_n exp(-beta_k U_n) / D_n,   D_n = sum_k N_k exp(f_k - beta_k U_n),
        ln w_n = -beta U_n - ln D_n

    Parameters
    ----------
    energy
        (n,) kJ/mol, all frames together; which temperature a frame came from does not matter.
    counts, betas
        (K,) frames drawn at, and 1/(kJ/mol) of, each temperature.
    beta
        1/(kJ/mol) of the target; need not be one of `betas`.

    Returns
    -------
    (n,) log weights that sum to one, and (K,) reduced free energies relative to the first state.

    Raises
    ------
    GibbsianError
        If the equations do not converge (temperatures without any overlap).
    """
    offset = energy.double().median()  # keeps the exponents small; put back into f below
    u = energy.double() - offset
    used = counts > 0
    log_n, b = counts[used].double().log(), betas[used].double()
    f = _free_energies(u, log_n, b)
    log_d = torch.logsumexp(log_n + f - b * u[:, None], 1)
    log_w = -beta * u - log_d
    f_all = -torch.logsumexp(-betas.double()[:, None] * u - log_d, 1) + betas.double() * offset
    return log_w - torch.logsumexp(log_w, 0), f_all - f_all[0]


def _free_energies(u: Tensor, log_n: Tensor, b: Tensor) -> Tensor:
    """Solve for f by Newton steps on the convex MBAR objective, after a few self-consistent iterations."""
    f = torch.zeros_like(b)
    n = log_n.exp()
    for iteration in range(_ITERATIONS):
        log_d = torch.logsumexp(log_n + f - b * u[:, None], 1)
        consistent = -torch.logsumexp(-b[:, None] * u - log_d, 1)
        consistent = consistent - consistent[0]
        residual = (consistent - f).abs().max()
        if residual < _TOLERANCE:
            return consistent
        f_new = consistent
        if iteration >= 5 and residual < 1.0:
            share = torch.exp(log_n + f - b * u[:, None] - log_d[:, None])
            total = share.sum(0)
            hessian = torch.diag(total) - share.T @ share
            f_new = f.clone()
            f_new[1:] += torch.linalg.solve(hessian[1:, 1:], (n - total)[1:])
            if (f_new - f).abs().max() > 2.0:
                f_new = consistent
        f = f_new
    raise GibbsianError("MBAR did not converge: the temperatures do not overlap; use more of them")
