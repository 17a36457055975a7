"""Weights of frames from several states, such as temperatures or umbrella windows (MBAR).

With reduced energies u_kn of frame n in state k and N_k frames from state k
(J. Chem. Phys. 129, 124105 (2008), eq. 11)::

    f_k = -ln sum_n exp(-u_kn) / D_n,   D_n = sum_k N_k exp(f_k - u_kn)
"""

import torch
from torch import Tensor

from gibbsian.errors import GibbsianError

_ITERATIONS, _TOLERANCE = 200, 1e-9
_LONGEST, _SHORT = 2.0, 0.1  # Newton steps, kT


def temperature_weights(energy: Tensor, counts: Tensor, betas: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """MBAR log weights at `beta` of frames drawn at several temperatures.

    The reduced energy is beta_k U_n, so U alone decides the weights: ln w_n = -beta U_n - ln D_n.

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
    at_states = betas[used].double() * u[:, None]
    log_d = log_mixture(at_states, counts[used], free_energies(at_states, counts[used]))
    log_w = -beta * u - log_d
    f_all = -torch.logsumexp(-betas.double()[:, None] * u - log_d, 1) + betas.double() * offset
    return log_w - torch.logsumexp(log_w, 0), f_all - f_all[0]


def log_mixture(u: Tensor, counts: Tensor, f: Tensor) -> Tensor:
    """Return ln D_n, (n,), of frames with reduced energies `u` (n, K) in states of free energies `f` (K,)."""
    return torch.logsumexp(counts.double().log() + f - u, 1)


def free_energies(u: Tensor, counts: Tensor, first: Tensor | None = None) -> Tensor:
    """Solve the MBAR equations.

    The solution minimises the convex function sum_n ln D_n - sum_k N_k f_k. Newton steps that lower it are taken,
    else self-consistent iterations, which always do.

    Parameters
    ----------
    u
        (n, K) reduced energy of every frame in every state, float64.
    counts
        (K,) frames from each state, all positive.
    first
        (K,) where to start, or None.

    Returns
    -------
    (K,) reduced free energies relative to the first state.

    Raises
    ------
    GibbsianError
        If the equations do not converge (states without any overlap).
    """
    n = counts.double()
    log_n = n.log()
    f = torch.zeros_like(n) if first is None else first.double() - first[0]
    logs = log_n + f - u
    log_d = torch.logsumexp(logs, 1)
    for iteration in range(_ITERATIONS):
        log_share = logs - log_d[:, None]
        consistent = f + log_n - torch.logsumexp(log_share, 0)
        consistent = consistent - consistent[0]
        if (consistent - f).abs().max() < _TOLERANCE:
            return consistent
        proposals = [consistent]
        if iteration >= 5 or first is not None:
            proposals = [*_newton(f, log_share.exp_(), n), consistent]
        before, height = f, log_d.sum() - n @ f
        for f in proposals:
            logs = log_n + f - u
            log_d = torch.logsumexp(logs, 1)
            # Rounding hides how much a short step gains.
            if (f - before).abs().max() < _SHORT or log_d.sum() - n @ f <= height:
                break
    raise GibbsianError("MBAR did not converge: the states do not overlap; use more of them")


def _newton(f: Tensor, share: Tensor, n: Tensor) -> list[Tensor]:
    """Where a bounded Newton step leads, if anywhere; `share` (n, K) is each state's part of D_n."""
    total = share.sum(0)
    hessian = torch.diag(total) - share.T @ share
    step, info = torch.linalg.solve_ex(hessian[1:, 1:], (n - total)[1:])
    if int(info) or not torch.isfinite(step).all():
        return []
    scale = _LONGEST / step.abs().max().clamp_min(_LONGEST)
    return [torch.cat([f[:1], f[1:] + scale * step])]
