"""What the orientation costs a Cartesian proposal: it gives equal conformations unequal densities when turned."""

import math
from typing import NamedTuple

import torch

from gibbsian.coords.gauge import random_rotations
from gibbsian.models.base import Proposal


class OrientationEss(NamedTuple):
    """Mean and standard error of the effective fraction that the orientation alone leaves."""

    fraction: float
    error: float


@torch.no_grad()
def orientation_ess(proposal: Proposal, n: int = 256, n_rotations: int = 32, seed: int = 0) -> OrientationEss:
    """Effective fraction ``1 / E_R[1 / r_R]``, ``r_R = q(R x) / E_R[q(R x)]``, over uniform rotations about the centre.

    One for a proposal whose density does not depend on the orientation. Without any other error, the effective sample
    size would be this fraction of the samples; a small one asks for a frame gauge or more training.

    Parameters
    ----------
    n, n_rotations, seed
        Conformations drawn from the proposal, rotations of each, and the seed of both.
    """
    generator = torch.Generator().manual_seed(seed)
    x, _ = proposal.sample(n, generator)
    centre = x.mean(1, keepdim=True)
    rotations = random_rotations(n * n_rotations, generator).view(n, n_rotations, 3, 3)
    turned = torch.einsum("bnj,brij->brni", x - centre, rotations) + centre[:, None]
    log_q = proposal.log_prob(turned.reshape(n * n_rotations, -1, 3)).view(n, n_rotations)
    log_n = math.log(n_rotations)
    log_mean, log_inverse = torch.logsumexp(log_q, 1) - log_n, torch.logsumexp(-log_q, 1) - log_n
    fraction = torch.exp(-log_mean - log_inverse)
    return OrientationEss(float(fraction.mean()), float(fraction.std()) / math.sqrt(n))
