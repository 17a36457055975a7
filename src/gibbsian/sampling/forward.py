"""How well a proposal covers the target, judged on held-out samples of the target itself."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import normalised
from gibbsian.errors import InputError
from gibbsian.models.base import SamplingProposal
from gibbsian.sampling.importance import log_weight_numbers, require_density
from gibbsian.targets.base import Target

MISSED = 1e4
"""A frame to which the proposal gives so many times less density than the target does is out of its reach."""


class ForwardEss(NamedTuple):
    """Forward effective sample size on held-out frames.

    Attributes
    ----------
    fraction
        Of all frames. A single frame that the proposal misses may bring it to nothing.
    n
        Number of frames.
    missed
        Share of their weight to which the proposal gives less than 1e-4 of the target's density, or none.
    covered
        The fraction on the other frames.
    """

    fraction: float
    n: int
    missed: float = 0.0
    covered: float | None = None


@torch.no_grad()
def forward_ess(proposal: SamplingProposal, target: Target, held_out: Ensemble, *, batch: int = 1000) -> ForwardEss:
    """Forward effective sample size 1 / (E_p[w] E_p[1/w]) on held-out frames, as a fraction.

    It falls where the proposal lacks a part of the target; the reverse one cannot see that. Equal to the
    reverse one for a proposal with support everywhere and infinitely many frames.

    Parameters
    ----------
    held_out
        Samples of the target that the proposal was not trained on; their weights are used. Frames of weight
        zero or without a finite energy are left out.
    batch
        Conformations per evaluation.

    Returns
    -------
    ForwardEss
        Fraction 0 where the proposal gives a frame no density. The constant between the densities is estimated on
        the same frames, by ``Z = 1 / E_p[1/w]``, which missed ones hardly change.

    Raises
    ------
    InputError
        For a sampling-only proposal or no frame with a finite energy.
    """
    dense = require_density(proposal, "forward effective sample size", drawn=True)
    numbers = []
    for start in range(0, len(held_out), batch):
        x = torch.from_numpy(held_out.positions[start : start + batch]).double()
        numbers.append(log_weight_numbers(dense, target, x, dense.log_prob(x)))
    u, log_q, log_gauge = np.concatenate(numbers, axis=1)
    used = np.isfinite(u) & np.isfinite(held_out.log_w)
    n = int(used.sum())
    if n == 0:
        raise InputError(
            "forward effective sample size: no held-out frame has a finite energy and a weight; check them"
        )
    p = normalised(held_out.log_w[used])
    dense_at = np.isfinite(log_q[used]) & np.isfinite(log_gauge[used])
    log_w = np.where(dense_at, log_gauge[used] - u[used] - np.where(dense_at, log_q[used], 0.0), np.inf)
    kept = p > 0
    log_z = -np.logaddexp.reduce(np.log(p[kept]) - log_w[kept]) if dense_at.any() else np.inf
    missed = ~(log_w < log_z + np.log(MISSED))
    covered = 0.0 if missed.all() else _fraction(p[~missed], log_w[~missed])
    return ForwardEss(_fraction(p, log_w), n, float(p[missed].sum()), covered)


def _fraction(p: NDArray[np.float64], log_w: NDArray[np.float64]) -> float:
    """Return 1 / (E_p[w] E_p[1/w]) for frames of weights `p` of any sum."""
    if not np.isfinite(log_w).all():
        return 0.0
    log_p = np.log(p[p > 0] / p.sum())
    both = np.logaddexp.reduce(log_p + log_w[p > 0]) + np.logaddexp.reduce(log_p - log_w[p > 0])
    return float(np.exp(-both))
