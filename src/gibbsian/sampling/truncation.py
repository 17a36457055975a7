"""Leaving out what ruins the weights, with the bias that it costs.

*Truncation* restricts the target to conformations below an energy, or above a density of the proposal. With
rho = n / ESS, the bias of an average of anything between -1 and 1 is at most b = 12 rho / n + delta, where delta
bounds the target's mass outside (12 rho / n: Agapiou et al., Statist. Sci. 32, 405 (2017), theorem 2.1). Chernoff
bounds from one batch turn a delta into a threshold:

    u <= gamma,        gamma = min over 0 < l < 1 of [ln E_p exp(l u) - ln delta] / l
    log q >= log_d,    log_d = max over 0 < l < 1 of [ln delta - ln E exp(-l log q)] / l

with the second mean over the target p, or over the proposal q as in the publication. *Clipping* changes weights
without such a bound: a labelled option.
"""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import checked, ess, normalised
from gibbsian.errors import InputError
from gibbsian.targets.base import Target

log = logging.getLogger(__name__)

Law = Literal["p", "q"]
Clipping = Literal["drop", "cap"]
LAMBDAS = np.linspace(0.02, 0.95, 40)
MIN_TILTED = 50.0
"""Effective samples that a tilted mean needs to be believed."""


@dataclass(frozen=True)
class Truncation:
    """What to leave out; by default nothing.

    Attributes
    ----------
    max_energy
        Largest u in kT, by hand.
    energy_delta
        Mass of the target that an automatic energy threshold may cost, such as 1e-3.
    density_delta, density_law
        The same for a threshold of log q; ``p`` bounds the target's mass outside, ``q`` only the proposal's.
    clip, clip_how
        Fraction of samples whose weights, the largest, are dropped or capped at the least of them. A bias.
    """

    max_energy: float | None = None
    energy_delta: float | None = None
    density_delta: float | None = None
    density_law: Law = "p"
    clip: float = 0.0
    clip_how: Clipping = "drop"

    def __post_init__(self) -> None:
        for name in ("energy_delta", "density_delta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(f"truncation {name}: got {value}; give a probability between 0 and 1, such as 1e-3")
        if not 0 <= self.clip < 1:
            raise InputError(f"truncation clip: got {self.clip}; give a fraction below 1, such as 0.002")


class Truncated:
    """A target that is infinite above an energy.

    Attributes
    ----------
    target
        What is truncated.
    max_u
        kT.
    """

    def __init__(self, target: Target, max_u: float) -> None:
        self.target, self.max_u = target, max_u
        self.n_atoms = target.n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy of `x` (B, N, 3) nm, (B,)."""
        return self._cut(self.target.u(x))

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, N, 3) 1/nm."""
        u, grad = self.target.u_and_grad(x)
        return self._cut(u), grad

    def _cut(self, u: Tensor) -> Tensor:
        return torch.where(u <= self.max_u, u, torch.inf)


@dataclass(frozen=True)
class Cut:
    """Thresholds, infinite where there is none, and what they cost.

    Attributes
    ----------
    max_u, min_log_q
        Kept are samples with u at most, and log q at least, this.
    notes
        For the record: thresholds, masses outside under q and (estimated) p, and the bound on the bias.
    """

    max_u: float
    min_log_q: float
    notes: dict[str, Any]

    def keeps(self, u: NDArray[np.float64], log_q: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask (n,) of what is kept."""
        return (u <= self.max_u) & (log_q >= self.min_log_q)


def find_cut(
    truncation: Truncation, u: NDArray[np.float64], log_q: NDArray[np.float64], log_w: NDArray[np.float64]
) -> Cut | None:
    """Thresholds from a batch of the proposal with log weights (n,); None where nothing is to be left out."""
    wanted = (truncation.max_energy, truncation.energy_delta, truncation.density_delta)
    if all(value is None for value in wanted) or ess(log_w) == 0:
        return None
    max_u = np.inf if truncation.max_energy is None else truncation.max_energy
    if truncation.energy_delta is not None:
        max_u = min(max_u, energy_threshold(u, log_w, truncation.energy_delta))
    min_log_q = -np.inf
    if truncation.density_delta is not None:
        law = log_w if truncation.density_law == "p" else np.where(np.isfinite(log_q), 0.0, -np.inf)
        min_log_q = -_chernoff(-log_q, law, truncation.density_delta)
    cut = Cut(max_u, min_log_q, {})
    outside = ~cut.keeps(u, log_q)
    sampling = 12.0 / ess(log_w)
    lost = float(normalised(log_w)[outside].sum())
    allowed = max(lost, (truncation.energy_delta or 0.0) + (truncation.density_delta or 0.0))
    notes = {
        "max_u": None if np.isinf(max_u) else float(max_u),
        "min_log_q": None if np.isinf(min_log_q) else float(min_log_q),
        "mass_outside_q": float(outside.mean()),
        "mass_outside_p": lost,
        "bias_bound": sampling + allowed,
        "bias_of_sampling": sampling,
        "settings": asdict(truncation),
    }
    log.info(
        "truncation: u <= %g kT, log q >= %g leave out %.2g of the proposal and %.2g of the target; bias at most %.2g",
        max_u,
        min_log_q,
        notes["mass_outside_q"],
        lost,
        notes["bias_bound"],
    )
    return replace(cut, notes=notes)


def energy_threshold(u: NDArray[np.float64], log_w: NDArray[np.float64], delta: float) -> float:
    """Energy (kT) that the target exceeds with a probability of at most `delta` (Chernoff bound); inf if unknown."""
    return _chernoff(u, log_w, delta)


def truncated(ensemble: Ensemble, truncation: Truncation) -> Ensemble:
    """Give importance samples weight zero outside the thresholds, and clip if that was asked for.

    Nothing leaves the count: log Z is that of the truncated target.

    Raises
    ------
    InputError
        If energies or log q are unknown.
    """
    if ensemble.u is None or ensemble.log_q is None:
        raise InputError("truncation: these samples have no energies or no log q; use importance samples")
    cut = find_cut(truncation, ensemble.u, ensemble.log_q, ensemble.log_w)
    if cut is not None:
        log_w = np.where(cut.keeps(ensemble.u, ensemble.log_q), ensemble.log_w, -np.inf)
        ensemble = replace(ensemble, log_w=log_w, provenance={**ensemble.provenance, "truncation": cut.notes})
    return clipped(ensemble, truncation.clip, truncation.clip_how)


def clipped(ensemble: Ensemble, fraction: float, how: Clipping = "drop") -> Ensemble:
    """Clip the largest weights; ``provenance["clipping"]`` says how many, and what they hid."""
    if fraction == 0:
        return ensemble
    log_w, count = clip_weights(ensemble.log_w, fraction, how)
    notes = {"fraction": fraction, "how": how, "count": count, "ess_unclipped": ensemble.ess}
    return replace(ensemble, log_w=log_w, provenance={**ensemble.provenance, "clipping": notes})


def clip_weights(log_w: NDArray[np.float64], fraction: float, how: Clipping) -> tuple[NDArray[np.float64], int]:
    """Drop the largest `fraction` of log weights (n,), or cap them at the least of these; return how many."""
    values = checked(log_w).copy()
    count = int(np.ceil(fraction * len(values)))
    largest = np.argsort(values, kind="stable")[len(values) - count :]
    values[largest] = -np.inf if how == "drop" else values[largest].min(initial=np.inf)
    return values, count


def _chernoff(values: NDArray[np.float64], log_w: NDArray[np.float64], delta: float) -> float:
    """Value exceeded with probability at most `delta` under weights; inf where no tilted mean can be trusted."""
    used = np.isfinite(log_w) & np.isfinite(values)
    if not used.any():
        return np.inf
    log_share, x = log_w[used] - np.logaddexp.reduce(log_w[used]), values[used]
    order = np.argsort(x)
    middle = np.searchsorted(np.cumsum(np.exp(log_share[order])), 0.5)
    reference = float(x[order][min(middle, len(x) - 1)])
    best = np.inf
    for lam in LAMBDAS:
        tilted = log_share + lam * (x - reference)
        if ess(tilted) >= MIN_TILTED:
            best = min(best, (np.logaddexp.reduce(tilted) - np.log(delta)) / lam)
    return reference + best
