"""Temperature ladders: spacing, neighbour swaps, and what they achieved."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def temperature_ladder(
    lowest: float, highest: float, n_atoms: int, n: int | None = None, acceptance: float = 0.3
) -> tuple[float, ...]:
    """Geometric temperatures from `lowest` to `highest` K.

    Without `n` their number gives the wanted acceptance for the heat capacity C of 3N harmonic degrees of
    freedom, in units of the Boltzmann constant 3N/2: neighbours at ratio r differ by a Gaussian log-weight of
    variance 2 C (ln r)^2, whose Metropolis acceptance is erfc(sqrt(C) ln(r) / 2).
    """
    if highest <= lowest or n == 1:
        return (lowest,)
    span = math.log(highest / lowest)
    if n is None:
        inverse = float(torch.special.erfinv(torch.tensor(1.0 - acceptance, dtype=torch.float64)))
        n = 1 + math.ceil(span * math.sqrt(1.5 * n_atoms) / (2.0 * inverse))
    return tuple(lowest * math.exp(span * k / (n - 1)) for k in range(n))


@dataclass(frozen=True, eq=False)
class Swaps:
    """Who is at which temperature, and the history that statistics need.

    Attributes
    ----------
    walker_at
        (L, K) walker, 0 to K-1 within its ladder, at each of K temperatures of L ladders.
    attempted, accepted
        (K-1,) counts for each pair of neighbouring temperatures.
    came_from
        (L, K) by walker: +1 after it was last at the top, -1 at the bottom, 0 neither yet.
    round_trips
        (L, K) by walker: bottom to top to bottom.
    """

    walker_at: Tensor
    attempted: Tensor
    accepted: Tensor
    came_from: Tensor
    round_trips: Tensor

    @property
    def level(self) -> Tensor:
        """(L, K) temperature index of each walker."""
        return torch.argsort(self.walker_at, dim=1)


def first_swaps(n_ladders: int, n_temperatures: int) -> Swaps:
    """Walker k starts at temperature k."""
    walker_at = torch.arange(n_temperatures).repeat(n_ladders, 1)
    pairs = torch.zeros(n_temperatures - 1, dtype=torch.long)
    return Swaps(
        walker_at=walker_at,
        attempted=pairs,
        accepted=pairs.clone(),
        came_from=torch.zeros_like(walker_at),
        round_trips=torch.zeros_like(walker_at),
    )


def swap_neighbours(swaps: Swaps, energy: Tensor, beta: Tensor, parity: int, generator: torch.Generator) -> Swaps:
    """Metropolis exchange between neighbouring temperatures, for the pairs (k, k+1) with k of one parity.

    Accepting with min(1, exp((beta_k - beta_l)(U_k - U_l))) keeps the joint distribution of each ladder.

    Parameters
    ----------
    energy
        (L, K) kJ/mol by walker, on the CPU.
    beta
        (K,) 1/(kJ/mol), falling.
    parity
        0 or 1; callers alternate.
    generator
        A CPU generator; L random numbers per pair are drawn.
    """
    lower = torch.tensor(range(parity % 2, len(beta) - 1, 2), dtype=torch.long)
    if not len(lower):
        return swaps
    at = energy.double().gather(1, swaps.walker_at)
    log_ratio = (beta[lower] - beta[lower + 1]) * (at[:, lower] - at[:, lower + 1])
    uniform = torch.rand(log_ratio.shape, dtype=torch.float64, generator=generator)
    accept = uniform.log() < log_ratio
    walker_at, attempted, accepted = swaps.walker_at.clone(), swaps.attempted.clone(), swaps.accepted.clone()
    walker_at[:, lower] = torch.where(accept, swaps.walker_at[:, lower + 1], swaps.walker_at[:, lower])
    walker_at[:, lower + 1] = torch.where(accept, swaps.walker_at[:, lower], swaps.walker_at[:, lower + 1])
    attempted[lower] += len(energy)
    accepted[lower] += accept.sum(0)
    came_from, round_trips = swaps.came_from.clone(), swaps.round_trips.clone()
    bottom, top = walker_at[:, :1], walker_at[:, -1:]
    round_trips.scatter_add_(1, bottom, (came_from.gather(1, bottom) == 1).long())
    came_from.scatter_(1, bottom, -1)
    came_from.scatter_(1, top, 1)
    return Swaps(walker_at, attempted, accepted, came_from, round_trips)


def statistical_inefficiency(series: Tensor) -> float:
    """Return the number of successive values per independent one: 1 + 2 sum_t (1 - t/n) C(t).

    The sum ends where the autocorrelation, averaged over the rows, first falls to zero
    (J. Chem. Theory Comput. 3, 26 (2007), section 2.4).

    Parameters
    ----------
    series
        (R, n) values of R independent runs; each row's own mean is not used, because slow differences
        between runs are correlation too.
    """
    n = series.shape[1]
    x = series.double() - series.double().mean()
    power = torch.fft.rfft(x, n=2 * n, dim=1).abs().square()
    lags = torch.fft.irfft(power, n=2 * n, dim=1)[:, :n].mean(0) / torch.arange(n, 0, -1, dtype=torch.float64)
    if lags[0] <= 0:
        return 1.0
    correlation = (lags / lags[0])[1:]
    ended = torch.nonzero(correlation <= 0)
    stop = int(ended[0]) if len(ended) else n - 1
    fade = 1.0 - torch.arange(1, stop + 1, dtype=torch.float64) / n
    return 1.0 + 2.0 * float((fade * correlation[:stop]).sum())
