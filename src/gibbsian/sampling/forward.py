"""How well a proposal covers the target, judged on held-out samples of the target itself."""

from typing import NamedTuple

import numpy as np
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import normalised
from gibbsian.errors import InputError
from gibbsian.models.base import SamplingProposal
from gibbsian.sampling.importance import log_weight_numbers, require_density
from gibbsian.targets.base import Target


class ForwardEss(NamedTuple):
    """Forward effective sample size: its fraction, and the number of held-out frames it was measured on."""

    fraction: float
    n: int


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
        Fraction 0 where the proposal gives a frame no density.

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
    if not (np.isfinite(log_q[used]) & np.isfinite(log_gauge[used])).all():
        return ForwardEss(0.0, n)
    log_p = np.log(normalised(held_out.log_w[used]))
    log_w = (log_gauge - u - log_q)[used]
    both = np.logaddexp.reduce(log_p + log_w) + np.logaddexp.reduce(log_p - log_w)
    return ForwardEss(float(np.exp(-both)), n)
