"""What accuracy costs: the core-seconds until every basin free energy is known well enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gibbsian.ensemble.weights import Estimate

TARGET = 0.1
"""kT to which every basin is wanted."""
SIGMAS = 2.0
"""Combined standard errors that an estimate may be away from a certified value beyond the accuracy wanted."""


@dataclass(frozen=True)
class KnownBasin:
    """What a method says of one basin.

    Attributes
    ----------
    name
        ``ALA2 left``.
    estimate
        Free energy in kT; its error is not finite where the basin was not found.
    certified
        What it should be; None where nobody knows.
    """

    name: str
    estimate: Estimate
    certified: Estimate | None = None

    @property
    def found(self) -> bool:
        """Whether there is an estimate with an error."""
        return math.isfinite(self.estimate.value) and math.isfinite(self.estimate.error)

    @property
    def difference(self) -> float | None:
        """Distance from the certified value in kT, if both exist."""
        if self.certified is None or not self.found:
            return None
        return abs(self.estimate.value - self.certified.value)

    @property
    def strain(self) -> float:
        """Difference in combined standard errors; 0 where there is none."""
        if self.certified is None or not self.difference:
            return 0.0
        return self.difference / math.hypot(self.estimate.error, self.certified.error)

    def compatible(self, target: float = TARGET) -> bool:
        """Whether the certified value, if there is one, is no further off than `target` and chance explain."""
        if self.certified is None or self.difference is None:
            return True
        return self.difference <= target + SIGMAS * math.hypot(self.estimate.error, self.certified.error)


@dataclass(frozen=True)
class Account:
    """Core-seconds of a method: `fixed` before its first sample, `variable` for the samples that it has."""

    fixed: float
    variable: float

    def after(self, share: float) -> float:
        """Core-seconds when this share of the samples was drawn; above one, of more than there are."""
        return self.fixed + share * self.variable


def largest_error(basins: Sequence[KnownBasin]) -> float:
    """Largest standard error in kT; inf where a basin was not found, or there is none."""
    return max((basin.estimate.error if basin.found else math.inf for basin in basins), default=math.inf)


def largest_difference(basins: Sequence[KnownBasin]) -> float | None:
    """Largest difference from a certified value in kT; None where no basin has both."""
    return max((basin.difference for basin in basins if basin.difference is not None), default=None)


def time_to(basins: Sequence[KnownBasin], account: Account, target: float = TARGET) -> float | None:
    """Core-seconds until every standard error is `target` kT; TT0.1 for the default.

    Variances of samples that are independent, or of ladders much longer than their memory, fall as one over the
    samples, so of those that there are a share max_k (e_k / target)^2 is needed, which may be more than one::

        fixed + variable max_k (e_k / target)^2

    Returns
    -------
    float or None
        None where that is never reached: a basin was not found, or is off its certified value by more than
        `target` and two combined standard errors, which more samples would not mend.
    """
    error = largest_error(basins)
    if not math.isfinite(error) or not all(basin.compatible(target) for basin in basins):
        return None
    return account.after((error / target) ** 2)


def error_after(error: float, account: Account, core_seconds: float) -> float:
    """Return the standard error after so many core-seconds of a method that has `error` at the end of its account."""
    share = (core_seconds - account.fixed) / account.variable if account.variable > 0 else math.inf
    return error / math.sqrt(share) if share > 0 else math.inf


def break_even(first: tuple[float, Account], second: tuple[float, Account]) -> float:
    """Return the standard error in kT at which two methods cost the same; below it the first is the cheaper.

    Each is its error and account. With f + v (E / e)^2 for both, e^2 = (v2 E2^2 - v1 E1^2) / (f1 - f2).

    Returns
    -------
    float
        0 where the first never is the cheaper, inf where it always is.
    """
    (error1, account1), (error2, account2) = first, second
    gain = account2.variable * error2**2 - account1.variable * error1**2
    loss = account1.fixed - account2.fixed
    if loss <= 0:
        return math.inf if gain >= 0 else 0.0
    return math.sqrt(gain / loss) if gain > 0 else 0.0
