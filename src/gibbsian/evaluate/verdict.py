"""May the weights be believed? One rule, plain reasons."""

import math
from dataclasses import dataclass

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.sampling.forward import ForwardEss

MIN_EFFECTIVE = 100
FREQUENT = 0.01
"""Basins more probable than this in the reference must be found."""
LOST = 0.2
"""A basin counts as lost below this share of its probability in the reference."""
FORWARD_SHARE = 0.1
"""The forward effective sample size must exceed this share of the reverse one."""


@dataclass(frozen=True)
class Verdict:
    """Whether the result is reliable, and if not why and what to do, one sentence each."""

    reliable: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class BasinShare:
    """Probability of a basin in the ensemble and in its reference."""

    name: str
    ensemble: float
    reference: float


def k_hat_limit(n: int) -> float:
    """Largest k-hat to trust from `n` samples: min(1 - 1 / log10 n, 0.7) (arXiv 1507.02646)."""
    return min(1 - 1 / math.log10(n), 0.7) if n > 10 else 0.0


def effective_number(ensemble: Ensemble) -> float:
    """Effective samples by their weights, or by what the sampler says of ancestors or correlation, if that is less."""
    return min(ensemble.ess, float(ensemble.provenance.get("effective", math.inf)))


def judge(ensemble: Ensemble, *, basins: tuple[BasinShare, ...] = (), forward: ForwardEss | None = None) -> Verdict:
    """Apply the rule of reliability.

    Reliable: k-hat below `k_hat_limit`, at least 100 effective samples, and, where a reference or data exist,
    no basin with more than 1 % of theirs lost and a forward effective sample size above a tenth of the reverse one,
    where held-out frames of at most 1 % of the weight may be out of the model's reach.

    Parameters
    ----------
    basins
        Shares in the ensemble and in the reference or the training data; empty where there is none.
    forward
        On held-out frames; None where there are none.

    Returns
    -------
    Verdict
        With one reason per failed test, or with one that says what was tested.
    """
    n, reasons = len(ensemble), []
    effective, k, limit = effective_number(ensemble), ensemble.k_hat, k_hat_limit(n)
    # The forward fraction is the proposal's, and so must be the reverse one that it is compared with.
    reverse = float(ensemble.provenance.get("proposal_ess", ensemble.ess)) / n
    if not ensemble.provenance.get("weighted", True):
        reasons.append("The samples carry no weights, so nothing corrects their distribution: sample with weights.")
    if effective < MIN_EFFECTIVE:
        reasons.append(
            f"Only {effective:.0f} effective sample{'' if round(effective) == 1 else 's'} of {n}, at least "
            f"{MIN_EFFECTIVE} are needed: "
            "draw more samples, or train longer if the fraction is tiny."
        )
    if not k < limit:
        reasons.append(
            f"The weights have too heavy a tail ({_tail(k)}, must be below {limit:.2f} for {n} samples), "
            "so their errors cannot be trusted: train longer or on more data; more samples alone will not help."
        )
    for basin in basins:
        if basin.reference > FREQUENT and basin.ensemble < LOST * basin.reference:
            reasons.append(
                f"The basin {basin.name} is lost: {basin.ensemble:.2%} of the ensemble, {basin.reference:.2%} of "
                "the reference: train on data that cover it, without a stage that follows the energy alone."
            )
    if forward is not None and not covers(forward, FORWARD_SHARE * reverse):
        reasons.append(
            f"The forward effective sample size on {forward.n} held-out frames is {forward.fraction:.2%}, the "
            f"reverse one {reverse:.2%}; {forward.missed:.2%} of their weight is out of the model's reach: "
            "it misses part of the distribution; train on more varied data."
        )
    if reasons:
        return Verdict(False, tuple(reasons))
    return Verdict(True, (_passed(effective, n, k, bool(basins), forward),))


def _tail(k: float) -> str:
    return f"k-hat {k:.2f}" if math.isfinite(k) else "k-hat has no value: too few weights differ from zero"


def covers(forward: ForwardEss, least: float) -> bool:
    """Whether all frames are covered well, or all but a few as rare as the basins that may be lost."""
    rest = forward.covered is not None and forward.covered > least
    return forward.fraction > least or (forward.missed <= FREQUENT and rest)


def _passed(effective: float, n: int, k: float, basins: bool, forward: ForwardEss | None) -> str:
    tested = f"{effective:.0f} effective samples of {n} and k-hat {k:.2f} are good"
    if basins:
        tested += ", every frequent basin of the reference was found"
    if forward is not None:
        tested += ", held-out frames are covered"
        tested += f" but for {forward.missed:.2%} of their weight" if forward.missed > 0 else ""
    missing = [] if basins else ["lost basins (no reference, or no residue with phi and psi)"]
    missing += [] if forward is not None else ["coverage (no held-out frames)"]
    return f"{tested}; not tested: {', '.join(missing)}." if missing else f"{tested}."
