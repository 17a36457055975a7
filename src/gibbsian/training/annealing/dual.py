"""The step of constrained mass transport (arXiv 2510.18460), found on the draws that it will weight.

    minimise KL(q | p)   subject to   KL(q | q_i) <= eps_tr,   H(q_i) - H(q) <= eps_ent

is solved by ``q ~ q_i^(lam/(1+lam+eta)) p^(1/(1+lam+eta))`` with the multipliers that maximise the concave dual

    g = -(1 + lam + eta) log Z - lam eps_tr + eta (H_i - eps_ent)
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from gibbsian.training.annealing.weights import FINAL, Powers, log_weights, moments

SMALLEST, LARGEST = 1e-6, 1e9
NEGLIGIBLE = 1e-3
"""Multipliers below this bind nothing."""


def powers_of(lam: float, eta: float) -> Powers:
    """Return the powers that belong to two multipliers."""
    total = 1.0 + lam + eta
    return Powers(lam / total, 1.0 / total)


def dual(
    log_q: Tensor, log_p: Tensor, lam: float, eta: float, eps_tr: float, eps_ent: float
) -> tuple[float, float, float]:
    """Return the dual function at two multipliers and its derivatives with respect to them."""
    powers = powers_of(lam, eta)
    divergence, entropy, log_z = (float(v) for v in moments(log_q, log_weights(log_q, log_p, powers)))
    before = -float(log_q[torch.isfinite(log_q)].mean())
    value = -(1.0 + lam + eta) * log_z
    value += -lam * eps_tr if math.isfinite(eps_tr) else 0.0
    value += eta * (before - eps_ent) if math.isfinite(eps_ent) else 0.0
    return value, divergence - eps_tr, (before - eps_ent) - entropy


def solve(log_q: Tensor, log_p: Tensor, eps_tr: float = math.inf, eps_ent: float = math.inf) -> Powers:
    """Return the powers of the furthest step that two bounds in nats allow; an infinite bound is none.

    Parameters
    ----------
    log_q, log_p
        (n,) of draws of q_i; p without its constant.
    """
    bounded = np.array([math.isfinite(eps_tr), math.isfinite(eps_ent)])
    if not bounded.any():
        return FINAL
    log_q, log_p = log_q.double(), log_p.double()

    def multipliers(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros(2)
        found[bounded] = np.exp(logs)
        return found

    def falling(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lam, eta = multipliers(logs)
        value, *slopes = dual(log_q, log_p, lam, eta, eps_tr, eps_ent)
        return -value, -np.array(slopes)[bounded] * np.exp(logs)

    # The dual is concave, but flat in logarithms of small multipliers: the start is on the steep side.
    start = np.full(int(bounded.sum()), math.log(1e2))
    limits = [(math.log(SMALLEST), math.log(LARGEST))] * len(start)
    found = minimize(falling, start, jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-14, "gtol": 1e-9})
    lam, eta = multipliers(found.x)
    if lam < NEGLIGIBLE and eta < NEGLIGIBLE:
        return FINAL
    return powers_of(float(lam), float(eta))
