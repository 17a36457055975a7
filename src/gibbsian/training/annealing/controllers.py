"""How far the next step goes: each method of annealing is a rule for the powers of q_i^a p^b."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.training.annealing.dual import solve
from gibbsian.training.annealing.weights import FINAL, Powers, weigh

TRIED = 64
"""Powers among which `EffectiveSize` chooses."""
SMALLEST_POWER = 1e-3


@dataclass(frozen=True)
class Place:
    """Where an annealing is.

    Attributes
    ----------
    steps
        Accepted steps so far.
    b
        Power of p in the last accepted step; 0 before the first.
    pace
        1, or less after a refused step: the next one goes as much less far.
    """

    steps: int = 0
    b: float = 0.0
    pace: float = 1.0


class Controller(Protocol):
    """A rule that chooses the next target."""

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Return the next powers, from log q and log p (n,) of draws of the current flow."""
        ...


@dataclass(frozen=True)
class TemperatureLadder:
    """Boltzmann distributions at falling temperatures, as temperature-annealed Boltzmann generators do.

    Attributes
    ----------
    powers
        b = T_final / T of each rung, rising to 1.
    """

    powers: tuple[float, ...]

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Return the next rung; after a refused step, one in between on a geometric scale."""
        ahead = next((b for b in self.powers if b > place.b), 1.0)
        if place.b > 0.0:
            ahead = place.b * (ahead / place.b) ** place.pace
        else:
            ahead *= place.pace
        return Powers(0.0, min(ahead, 1.0))


def geometric_ladder(hottest: float, coldest: float, n: int) -> TemperatureLadder:
    """Return a ladder of `n` temperatures (K) with constant ratios, both ends included.

    Raises
    ------
    InputError
        If it does not fall.
    """
    if n < 2 or not hottest > coldest > 0:
        raise InputError(
            f"annealing: {n} temperatures from {hottest} to {coldest} K; give two or more, the first hotter"
        )
    return TemperatureLadder(tuple((coldest / hottest) ** (1 - k / (n - 1)) for k in range(n)))


@dataclass(frozen=True)
class EffectiveSize:
    """Temperatures as low as an effective fraction allows, found on the draws."""

    fraction: float = 0.5

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Return the largest b above the last one whose weights keep the fraction, else that which keeps most.

        A flow at its start is no Boltzmann distribution, so that the fraction may rise with b before it falls.
        """
        first = max(place.b, SMALLEST_POWER)
        powers = [Powers(0.0, first ** (1 - k / TRIED)) for k in range(1, TRIED)] + [FINAL]
        kept = [weigh(log_q, log_p, power).ess for power in powers]
        enough = [k for k, ess in enumerate(kept) if ess >= self.fraction]
        best = enough[-1] if enough else max(range(TRIED), key=lambda k: kept[k])
        return FINAL if powers[best] == FINAL else Powers(0.0, first ** (1 - place.pace * (best + 1) / TRIED))


@dataclass(frozen=True)
class Geometric:
    """Mixtures q^(1-g) p^g with given g; 1 once they are used up."""

    schedule: tuple[float, ...]

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Return the next mixture."""
        g = self.schedule[place.steps] if place.steps < len(self.schedule) else 1.0
        g *= place.pace
        return Powers(1.0 - g, g)


@dataclass(frozen=True)
class MassTransport:
    """The furthest step within a trust region and an entropy bound, in nats; infinite for none of the kind."""

    trust: float = 0.3
    entropy: float = 1.0

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Solve for the multipliers on the draws."""
        return solve(log_q, log_p, self.trust * place.pace, self.entropy * place.pace)


@dataclass(frozen=True)
class MinimumVariance:
    """The target p^2 / q of flow annealed importance sampling bootstrap (FAB); it moves with the flow."""

    def choose(self, log_q: Tensor, log_p: Tensor, place: Place) -> Powers:
        """Return a = -1, b = 2."""
        return Powers(-1.0, 2.0)
