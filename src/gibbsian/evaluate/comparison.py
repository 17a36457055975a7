"""The learned ensemble against replica exchange: what either pays for its basin free energies.

The data of a flow are themselves replica exchange. What they give alone is the row to beat, so the flow pays for all
of them and for its training before its first sample; replica exchange pays for its equilibration and then by the
frame. Building the system, seconds, is left out of both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import free_energy
from gibbsian.ensemble.reference import RARE, Reference
from gibbsian.ensemble.weights import Estimate
from gibbsian.evaluate.cost import (
    TARGET,
    Account,
    KnownBasin,
    break_even,
    error_after,
    largest_difference,
    largest_error,
    time_to,
)

POINTS = 8
"""Points of a curve, each at twice the samples of the one before."""

AHEAD = 2.0
"""Curves go on, as errors should fall, up to this multiple of what the flow has cost."""

SUSPICIOUS = 3.0
"""Combined standard errors beyond which a difference from a certified value is no chance."""

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class StageCosts:
    """Core-seconds of the stages of a run.

    Attributes
    ----------
    simulate, train, sample
        Processor time of all processes.
    warm_up
        Share of `simulate` before its first frame: start structures and equilibration.
    """

    simulate: float
    train: float
    sample: float
    warm_up: float

    @property
    def exchange(self) -> Account:
        """Replica exchange alone."""
        return Account(self.warm_up * self.simulate, (1 - self.warm_up) * self.simulate)

    @property
    def flow(self) -> Account:
        """Everything that the weighted samples needed."""
        return Account(self.simulate + self.train, self.sample)


@dataclass(frozen=True)
class Method:
    """One side of the comparison: basins at growing shares of its samples, the last of which is all of them."""

    account: Account
    shares: tuple[float, ...]
    basins: tuple[tuple[KnownBasin, ...], ...]

    @property
    def error(self) -> float:
        """Largest standard error in kT with all samples."""
        return largest_error(self.basins[-1])

    @property
    def difference(self) -> float | None:
        """Largest difference from a certified value in kT with all samples."""
        return largest_difference(self.basins[-1])

    @property
    def strain(self) -> float:
        """Largest difference from a certified value in combined standard errors, over basins and points."""
        return max((basin.strain for basins in self.basins for basin in basins), default=0.0)

    @property
    def curve(self) -> list[dict[str, float]]:
        """Points with ``core_seconds``, ``error`` and, where basins are certified, ``difference``; largest ones, kT.

        Points at which a basin has no error yet are left out.
        """
        points = []
        for share, basins in zip(self.shares, self.basins, strict=True):
            if not math.isfinite(largest_error(basins)):
                continue
            point = {"core_seconds": self.account.after(share), "error": largest_error(basins)}
            difference = largest_difference(basins)
            points.append(point | ({} if difference is None else {"difference": difference}))
        return points

    def ahead(self, until: float) -> list[dict[str, float]]:
        """Points like those of `curve`, from its end to so many core-seconds, if errors fall as they should."""
        most = (until - self.account.fixed) / self.account.variable if self.account.variable > 0 else 0.0
        if not math.isfinite(self.error) or most <= 1:
            return []
        shares = np.geomspace(1, most, POINTS).tolist()
        return [{"core_seconds": self.account.after(s), "error": self.error / math.sqrt(s)} for s in shares]


def against_exchange(
    ensemble: Ensemble, data: Ensemble, certified: Reference | None, costs: StageCosts, *, reliable: bool
) -> dict[str, Any]:
    """Compare an ensemble with the replica exchange that it was learned from.

    Parameters
    ----------
    ensemble
        Independent weighted samples, in the order in which they were drawn.
    data
        From `gibbsian.dynamics.collect.load_simulation`: walker by walker, each in order of time.
    certified
        Decides which basins count and what they should be; without it those count that are not rare in the data.
    costs
        Of the stages.
    reliable
        The verdict: error bars of weights that are not reliable reach nothing.

    Returns
    -------
    dict
        ``flow`` and ``replica_exchange``: core-seconds until every basin is known to 0.1 kT (TT0.1, see
        `gibbsian.evaluate.cost.time_to`) or None; ``break_even``: the error in kT below which the flow is the
        cheaper, or None; ``same_cost``: largest errors of both at what the flow has cost; ``difference``: largest ones
        from the certified values with all samples, or None; ``explanation``; ``curves``: points as `Method.curve` and
        `Method.ahead` return them.
    """
    wanted = _wanted(data, certified)
    flow, exchange = _flow(ensemble, wanted, costs.flow), _exchange(data, wanted, costs.exchange)
    times = {
        "flow": time_to(flow.basins[-1], flow.account) if reliable else None,
        "replica_exchange": time_to(exchange.basins[-1], exchange.account),
    }
    equal, spent = None, flow.account.after(1.0)
    if None not in times.values():
        equal = break_even((flow.error, flow.account), (exchange.error, exchange.account))
    return {
        **times,
        "break_even": equal if equal is None or math.isfinite(equal) else None,
        "same_cost": {
            "core_seconds": spent,
            "flow": flow.error if reliable else None,
            "replica_exchange": error_after(exchange.error, exchange.account, spent),
        },
        "difference": {"flow": flow.difference, "replica_exchange": exchange.difference},
        "explanation": " ".join(
            [*_sentences(times, flow, exchange, costs, reliable), _break_even_sentence(equal)]
        ).strip(),
        "curves": {
            name: {"measured": method.curve, "expected": method.ahead(AHEAD * spent)}
            for name, method in (("flow", flow), ("replica_exchange", exchange))
        },
    }


def basins_known(ensemble: Ensemble, certified: Reference | None) -> tuple[KnownBasin, ...]:
    """Free energies of an ensemble's basins beside certified ones, where there are; else of those that are not rare."""
    masks = basin_masks(ensemble.topology, ensemble.positions)
    return _known(ensemble, masks, _wanted(ensemble, certified), np.ones(len(ensemble), dtype=np.bool_))


def _wanted(data: Ensemble, certified: Reference | None) -> dict[str, Estimate | None]:
    """Find the basins that count, with their certified values."""
    if certified is not None:
        return {basin.name: basin.free_energy for basin in certified.basins if basin.gated}
    shares = {name: float(data.weights @ mask) for name, mask in basin_masks(data.topology, data.positions).items()}
    return {name: None for name, share in shares.items() if RARE <= share <= 1 - RARE}


def _flow(ensemble: Ensemble, wanted: Mapping[str, Estimate | None], account: Account) -> Method:
    """Judge the flow by its first samples, twice as many at each point."""
    masks, n = basin_masks(ensemble.topology, ensemble.positions), len(ensemble)
    sizes = sorted({max(1, n >> k) for k in range(POINTS)})
    index = np.arange(n)
    basins = tuple(_known(ensemble, masks, wanted, index < size) for size in sizes)
    return Method(account, tuple(size / n for size in sizes), basins)


def _exchange(data: Ensemble, wanted: Mapping[str, Estimate | None], account: Account) -> Method:
    """Judge replica exchange by the first frames of every walker, twice as many at each point.

    Weights stay those of all frames: the temperatures' free energies, all that they share, are known long before
    any basin is.
    """
    masks, frames = basin_masks(data.topology, data.positions), data.provenance["statistics"]["frames_per_walker"]
    sizes = sorted({max(1, frames >> k) for k in range(POINTS)})
    time = np.arange(len(data)) % frames
    basins = tuple(_known(data, masks, wanted, time < size) for size in sizes)
    return Method(account, tuple(size / frames for size in sizes), basins)


def _known(
    ensemble: Ensemble, masks: Masks, wanted: Mapping[str, Estimate | None], part: NDArray[np.bool_]
) -> tuple[KnownBasin, ...]:
    log_w, lineage = ensemble.log_w[part], None if ensemble.lineage is None else ensemble.lineage[part]
    if not np.isfinite(log_w).any():
        return tuple(KnownBasin(name, Estimate(math.nan, math.inf), certified) for name, certified in wanted.items())
    return tuple(
        KnownBasin(name, free_energy(masks[name][part], log_w, lineage=lineage), certified)
        for name, certified in wanted.items()
    )


def _sentences(
    times: Mapping[str, float | None], flow: Method, exchange: Method, costs: StageCosts, reliable: bool
) -> list[str]:
    """Say what either took, or why it does not get there."""
    sentences = []
    if times["replica_exchange"] is None:
        sentences.append(f"Replica exchange alone does not reach {TARGET} kT: {_obstacle(exchange.basins[-1])}.")
    else:
        sentences.append(
            f"Replica exchange alone needs {_number(times['replica_exchange'])} core-seconds until every basin has a "
            f"standard error below {TARGET} kT."
        )
    if (strain := exchange.strain) > SUSPICIOUS:
        sentences.append(
            f"Its early frames are up to {strain:.1f} standard errors off the certified reference, a sign that "
            "they still relax from their hot start, which error bars do not show."
        )
    if times["flow"] is None:
        why = _obstacle(flow.basins[-1]) if reliable else "its weights are not reliable"
        sentences.append(f"The learned ensemble does not reach {TARGET} kT: {why}.")
    else:
        sampling = times["flow"] - flow.account.fixed
        sentences.append(
            f"The learned ensemble needs {_number(times['flow'])}: {_number(costs.simulate)} for its data, "
            f"{_number(costs.train)} for training, {_number(sampling)} for samples."
        )
    return sentences


def _break_even_sentence(equal: float | None) -> str:
    if equal is None:
        return ""
    if equal == 0:
        return "Replica exchange is the cheaper one at any accuracy."
    if math.isinf(equal):
        return "The learned ensemble is the cheaper one at any accuracy."
    return f"The learned ensemble is the cheaper one for errors below {equal:.2g} kT, replica exchange above."


def _obstacle(basins: tuple[KnownBasin, ...]) -> str:
    if not basins:
        return "there is no basin to know"
    for basin in basins:
        if not basin.found:
            return f"{basin.name} was not found, or only once"
    off = max((basin for basin in basins if not basin.compatible()), key=lambda basin: basin.difference or 0.0)
    return f"{off.name} is {off.difference:.2f} kT from the certified reference, more than error bars explain"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
