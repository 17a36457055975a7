"""What every method of annealing has in common: the next flow is fitted to a power of the last and of the target.

    q_(i+1)  ~  q_i^a p^b,      log w = (a - 1) log q_i + b log p      on draws of q_i

with log p = -u without its constant. Densities are those of Cartesian coordinates, so p^b is the Boltzmann distribution
at T / b.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Powers(NamedTuple):
    """Target q_i^a p^b of the next flow."""

    a: float
    b: float

    @property
    def final(self) -> bool:
        """Whether this is the Boltzmann distribution itself."""
        return self.a == 0.0 and self.b == 1.0


FINAL = Powers(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Draws of q_i, weighted for q^a p^b.

    Attributes
    ----------
    powers
        a and b.
    log_w
        (n,) log weights, -inf where the energy is not finite.
    ess
        Effective fraction, unclipped.
    log_z
        Estimated logarithm of the integral of q_i^a p^b.
    divergence
        KL(q_(i+1) | q_i) in nats.
    entropy_drop
        H(q_i) - H(q_(i+1)) in nats.
    """

    powers: Powers
    log_w: Tensor
    ess: float
    log_z: float
    divergence: float
    entropy_drop: float


def log_weights(log_q: Tensor, log_p: Tensor, powers: Powers) -> Tensor:
    """Log weights (n,) of draws of q_i for q_i^a p^b; -inf where `log_p` or `log_q` is not finite."""
    log_w = (powers.a - 1.0) * log_q + powers.b * log_p
    return torch.where(torch.isfinite(log_p) & torch.isfinite(log_q), log_w, -torch.inf)


def weigh(log_q: Tensor, log_p: Tensor, powers: Powers) -> Weighted:
    """Weight draws with `log_q` and `log_p` (n,) for q^a p^b, and say what the step costs in nats."""
    log_w = log_weights(log_q, log_p, powers)
    divergence, entropy, log_z = moments(log_q, log_w)
    before = -float(log_q[torch.isfinite(log_q)].mean())
    return Weighted(
        powers, log_w, effective(log_w) / len(log_w), float(log_z), float(divergence), before - float(entropy)
    )


def effective(log_w: Tensor) -> float:
    """Effective number of draws with log weights (n,)."""
    return float(torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)))


def moments(log_q: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL(q' | q) and H(q') of the distribution that `log_w` (n,) makes of draws of q, and log Z, all 0-d.

    ``KL = <log w - log Z>_w`` and ``H = -<log q + log w - log Z>_w``.
    """
    log_z = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    # A weight of zero adds nothing, although its logarithm is infinite.
    share, rest = torch.softmax(log_w, 0), torch.where(torch.isfinite(log_w), log_w - log_z, 0.0)
    divergence = (share * rest).sum()
    entropy = -(share * (torch.where(torch.isfinite(log_q), log_q, 0.0) + rest)).sum()
    return divergence, entropy, log_z
