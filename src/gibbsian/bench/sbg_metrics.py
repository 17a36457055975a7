"""Columns of the table `sbg`: figures of one ensemble, and of several that differ only in the sampling seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.bench.rows import Metric
from gibbsian.bench.sbg_work import Budget, Desk, known_basins, reference, slow_modes
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.distances import torus_w2
from gibbsian.ensemble.draws import thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.reference import RARE, ReferenceBasin
from gibbsian.ensemble.weights import Estimate, resample
from gibbsian.evaluate.metrics import compare, sample_of
from gibbsian.evaluate.slow_modes import Tica
from gibbsian.progress import Report, silent
from gibbsian.targets.handed import Handed

CHUNK = 10_000
LOST = 10.0
"""A basin counts as missed where its share is less than this fraction below that of the reference."""


@dataclass(frozen=True, eq=False)
class Judge:
    """What results are compared with.

    Attributes
    ----------
    reference
        Equally likely conformations of the independent replica exchange.
    tica, tica_source
        Slow modes, and where they are from.
    basins, basin_source
        Free energies, and where they are from.
    budget
        Sample sizes.
    """

    reference: Ensemble
    tica: Tica
    tica_source: str
    basins: tuple[ReferenceBasin, ...]
    basin_source: str
    budget: Budget

    @property
    def notes(self) -> dict[str, object]:
        """Return what a row says about how it was judged."""
        return {
            "reference_frames": len(self.reference),
            "tica": self.tica_source,
            "basins": self.basin_source,
            "compared": self.budget.compared,
            "transported": self.budget.transported,
        }


def judge_of(desk: Desk, report: Report = silent) -> Judge:
    """Make the reference of a system, or read it."""
    found = reference(desk, report)
    basins, basin_source = known_basins(desk, found)
    tica, tica_source = slow_modes(desk, report)
    frames = thinned(found, 2 * desk.budget.compared)
    return Judge(frames, tica, tica_source, basins, basin_source, desk.budget)


def single(ensemble: Ensemble, n: int) -> dict[str, Estimate]:
    """Figures of one ensemble from its weights: of all `n` draws, unclipped, with the errors that it has itself."""
    found: dict[str, Estimate] = {}
    if np.ptp(ensemble.log_w) > 0:  # equal weights say nothing
        found["ess_fraction"] = Estimate(ensemble.ess / n, math.nan)
    if ensemble.log_q is not None:
        found["k_hat"] = Estimate(ensemble.k_hat, math.nan)
        found["log_z"] = ensemble.log_z
    if "effective" in ensemble.provenance:
        found["effective_fraction"] = Estimate(ensemble.provenance["effective"] / n, math.nan)
    if "unique_ancestors" in ensemble.provenance:
        found["unique_ancestors"] = Estimate(ensemble.provenance["unique_ancestors"] / n, math.nan)
    return found


def basin_figures(ensemble: Ensemble) -> dict[str, Estimate]:
    """Free energies of all basins in kT; errors by weights or lineages."""
    masks = basin_masks(ensemble.topology, ensemble.positions)
    return {f"free_energy {name}": ensemble.free_energy(mask) for name, mask in masks.items()}


def distances(ensemble: Ensemble, judge: Judge, seed: int, splits: int) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Distances after resampling to the size of the comparison, and their floors; none where nothing has weight."""
    budget = judge.budget
    if ensemble.ess == 0:
        return {}, {}
    size = min(budget.compared, len(ensemble))
    drawn = ensemble.take(resample(ensemble.weights, size, seed=seed))
    drawn = replace(drawn, log_w=np.zeros(size), lineage=None)
    few = min(budget.transported, size)
    found = compare(drawn, judge.reference, n=size, n_transport=few, splits=splits, seed=seed, tica=judge.tica)
    named = {d.name: d for d in found}
    return (
        {name: Estimate(d.value, math.nan) for name, d in named.items()},
        {name: d.floor for name, d in named.items()},
    )


def transported_once(ensemble: Ensemble, judge: Judge) -> dict[str, Metric]:
    """T-W2 at the size of the published ones, beside one floor; nothing where either side is too small for it."""
    size = judge.budget.transported_once
    if not size or min(len(ensemble), len(judge.reference) // 2) < size:
        return {}
    rows = np.arange(len(ensemble))
    mine, theirs = sample_of(ensemble).pick(rows, size, 0), sample_of(judge.reference)
    order = np.random.default_rng(0).permutation(len(judge.reference))
    first, second = theirs.angles[order[:size]], theirs.angles[order[size : 2 * size]]
    return {f"t_w2_{size}": Metric(torus_w2(mine.angles, first), None, torus_w2(first, second))}


def combined(runs: Sequence[Mapping[str, Estimate]], floors: Mapping[str, float] | None = None) -> dict[str, Metric]:
    """Mean and standard deviation over runs with different seeds; a single run has its own error."""
    metrics = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        values = np.array([run[name].value for run in runs if name in run])
        error = next(run[name].error for run in runs if name in run)
        if len(values) > 1:
            error = float(values.std(ddof=1)) if np.isfinite(values).all() else math.nan
        metrics[name] = Metric(mean(values), error, (floors or {}).get(name))
    return metrics


def mean(values: NDArray[np.float64]) -> float:
    """Mean, or not a number where one of the values is not finite."""
    return float(values.mean()) if np.isfinite(values).all() else math.nan


def against_basins(
    runs: Sequence[Mapping[str, Estimate]], basins: Sequence[ReferenceBasin]
) -> tuple[dict[str, Metric], list[str]]:
    """Differences from known free energies, and the names of basins that are missed.

    Returns
    -------
    metrics
        ``free_energy_difference NAME`` with the combined standard error of the mean over runs and of the reference,
        ``(rare)`` behind those by which nothing is judged; over the others ``basin_error``, the largest absolute
        difference in kT, ``basin_strain``, the largest in combined errors, and ``basins_within_2_sigma``, a share.
    missed
        Basins whose share, mean over runs, is below a tenth of what it should be, rare ones included if theirs is
        finite.
    """
    metrics: dict[str, Metric] = {}
    gated: list[tuple[float, float]] = []
    missed = []
    for basin in basins:
        mine = [run[f"free_energy {basin.name}"] for run in runs if f"free_energy {basin.name}" in run]
        if not mine or not math.isfinite(basin.free_energy.value):
            continue
        values = np.array([m.value for m in mine])
        own = mine[0].error
        if len(values) > 1 and np.isfinite(values).all():
            own = float(values.std(ddof=1)) / math.sqrt(len(values))
        difference = mean(values) - basin.free_energy.value
        error = math.hypot(own, basin.free_energy.error)
        suffix = "" if basin.gated else " (rare)"
        metrics[f"free_energy_difference {basin.name}{suffix}"] = Metric(difference, error)
        share = float(np.mean(1 / (1 + np.exp(np.clip(values, -700, 700)))))
        if share < basin.probability.value / LOST and basin.probability.value >= RARE:
            missed.append(basin.name)
        if basin.gated:
            gated.append((abs(difference), error))
    if gated:
        strains = [d / e if math.isfinite(d) and e > 0 else math.inf for d, e in gated]
        metrics["basin_error"] = Metric(max(d for d, _ in gated))
        metrics["basin_strain"] = Metric(max(strains))
        metrics["basins_within_2_sigma"] = Metric(sum(s <= 2 for s in strains) / len(strains))
        metrics["missed_basins"] = Metric(len(missed))
    return metrics, missed


def validity(ensemble: Ensemble, target: Handed) -> dict[str, Estimate]:
    """Shares of conformations with a wrong handedness, and of those without weight for another reason."""
    right = np.concatenate(
        [
            target.right(torch.from_numpy(ensemble.positions[k : k + CHUNK]).double()).numpy()
            for k in range(0, len(ensemble), CHUNK)
        ]
    )
    lost = np.isneginf(ensemble.log_w)
    return {
        "wrong_handedness": Estimate(float(np.mean(~right)), math.nan),
        "non_finite": Estimate(float(np.mean(lost & right)), math.nan),
    }


def unweighted(ensemble: Ensemble) -> Ensemble:
    """Return the draws that have a density, an energy and the right handedness, all alike."""
    kept = ensemble.take(np.isfinite(ensemble.log_w))
    return replace(kept, log_w=np.zeros(len(kept)))


def judged(
    ensembles: Sequence[Ensemble], judge: Judge, target: Handed, *, draws: int, weighted: bool = True
) -> tuple[dict[str, Metric], dict[str, object]]:
    """All columns of ensembles that differ in their seed.

    Parameters
    ----------
    draws
        Draws behind each ensemble; effective numbers are shares of them.
    weighted
        Whether the weights count; without, the proposal itself is looked at.

    Returns
    -------
    Metrics, and notes for the budget.
    """
    runs: list[dict[str, Estimate]] = []
    floors: dict[str, float] = {}
    for k, ensemble in enumerate(ensembles):
        found = validity(ensemble, target)
        used = ensemble if weighted else unweighted(ensemble)
        if weighted:
            found |= single(used, draws)
        if len(used) > 1 and used.ess > 0:
            values, own = distances(used, judge, k, judge.budget.splits if k == 0 else 1)
            floors = floors or own
            found |= values | basin_figures(used)
        runs.append(found)
    metrics = combined(runs, floors)
    differences, missed = against_basins(runs, judge.basins)
    first = ensembles[0] if weighted else unweighted(ensembles[0])
    metrics |= differences | (transported_once(first, judge) if len(first) and first.ess > 0 else {})
    return metrics, {**judge.notes, "sampling_seeds": len(ensembles), "missed_basins": missed}
