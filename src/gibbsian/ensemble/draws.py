"""Which conformations of an ensemble are looked at: what the generator drew, sound ones, ones drawn by weight."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import resample

MOVED = ("smc", "langevin")
"""Methods that move the draws before they weight them."""


def drawn(ensemble: Ensemble) -> Ensemble | None:
    """Return the generator's draws as they came, equally weighted; None where they are not known.

    Importance samples are the draws. Annealed ones carry some of theirs with them; samples of a Markov chain and frames
    of a simulation do not.
    """
    draws = ensemble.draws
    if draws is None and ensemble.log_q is not None and ensemble.provenance.get("method") not in (*MOVED, "exchange"):
        draws = ensemble
    return None if draws is None else replace(draws, log_w=np.zeros(len(draws)), lineage=None)


def sound(ensemble: Ensemble) -> Ensemble:
    """Leave out conformations whose coordinates are not finite, or were not and are now all zero."""
    x = ensemble.positions
    kept = np.isfinite(x).all(axis=(1, 2)) & x.any(axis=(1, 2))
    return ensemble if kept.all() else ensemble.take(kept)


def by_weight(ensemble: Ensemble, most: int, *, least: int = 1, seed: int = 0) -> NDArray[np.int64]:
    """Draw conformations by weight, `most` of them or as many as the weights are worth, and at least so many."""
    return resample(ensemble.weights, max(least, min(most, int(ensemble.ess))), seed=seed)


def thinned(ensemble: Ensemble, most: int, seed: int = 0) -> Ensemble:
    """Draw by weight as many conformations as the weights are worth, at most `most`; all weigh the same then."""
    index = by_weight(ensemble, most, seed=seed)
    return replace(ensemble.take(index), log_w=np.zeros(len(index)))
