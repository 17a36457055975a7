"""An ensemble against a reference: every distance at one sample size, beside its floor.

The floor of a distance is what it gives between two halves of the reference, split by lineage (or stretches
of time), resampled to the same size. A distance near its floor means no difference was found at this size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.distances import (
    plane_w2,
    ramachandran_jsd,
    ramachandran_tv,
    split_reference,
    torus_w2,
    wasserstein,
)
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import blocks_of
from gibbsian.ensemble.geometry import phi_psi, ramachandran
from gibbsian.ensemble.weights import resample
from gibbsian.errors import InputError
from gibbsian.evaluate.slow_modes import Tica, features

JSD_BINS, TV_BINS = 36, 100


@dataclass(frozen=True)
class Distance:
    """A distance, the samples on either side, and its floor at that size."""

    name: str
    n: int
    value: float
    floor: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Per-conformation quantities that the distances compare; rows are conformations."""

    energies: NDArray[np.float64] | None
    angles: NDArray[np.float64]
    plane: NDArray[np.float64]
    slow: NDArray[np.float64] | None
    weights: NDArray[np.float64]
    blocks: NDArray[np.int64]

    def pick(self, rows: NDArray[np.int64], n: int, seed: int) -> "Sample":
        """Draw `n` rows by weight among `rows`, with equal weights from then on."""
        index = rows[resample(self.weights[rows], n, seed=seed)]
        # Systematic draws come in order; without shuffling a cut to fewer would be a stretch of time.
        index = np.random.default_rng(seed).permutation(index)
        return Sample(
            energies=None if self.energies is None else self.energies[index],
            angles=self.angles[index],
            plane=self.plane[index],
            slow=None if self.slow is None else self.slow[index],
            weights=np.full(n, 1 / n),
            blocks=self.blocks[index],
        )


def sample_of(ensemble: Ensemble, tica: Tica | None = None) -> Sample:
    """Compute what the distances need from an ensemble."""
    topology, x = ensemble.topology, ensemble.positions
    n = len(ensemble)
    lineage = np.arange(n) if ensemble.lineage is None else ensemble.lineage
    return Sample(
        energies=ensemble.u,
        angles=phi_psi(topology, x),
        plane=ramachandran(topology, x)[1],
        slow=None if tica is None else tica.transform(features(topology, x)),
        weights=ensemble.weights,
        blocks=blocks_of(lineage),
    )


def compare(
    ensemble: Ensemble,
    reference: Ensemble,
    *,
    n: int = 10_000,
    n_transport: int = 2000,
    splits: int = 5,
    seed: int = 0,
    tica: Tica | None = None,
) -> list[Distance]:
    """Distances of an ensemble from a reference, with floors.

    Parameters
    ----------
    ensemble, reference
        Of the same molecule at the same temperature; both are resampled by their weights to one size.
    n
        Largest sample size; the size used is at most half the effective reference, so that its floor has the same.
    n_transport
        Largest size for those that solve an assignment problem.
    splits
        Splits of the reference; the floor is the mean over them.
    tica
        Projection fitted on continuous runs of the reference; adds TICA-W2.

    Returns
    -------
    list of Distance
        ``e_w1``, ``e_w2`` (kT), ``t_w2`` (rad), ``ram_jsd_36x36_bits``, ``ram_tv_100x100``, ``tica_w2``, as
        far as both sides have energies, backbone torsions, and a projection is given.

    Raises
    ------
    InputError
        If the molecules or temperatures differ or the reference is too small to be split.
    """
    _comparable(ensemble, reference)
    mine, theirs = sample_of(ensemble, tica), sample_of(reference, tica)
    size = min(n, len(ensemble), int(reference.ess) // 2)
    if size < 2:
        raise InputError(f"reference: {reference.ess:.0f} effective frames against {len(ensemble)}; give at least four")
    pairs = [
        (
            mine.pick(np.arange(len(ensemble)), size, seed),
            theirs.pick(np.arange(len(reference)), size, seed + 1),
        )
    ]
    for split in range(splits):
        first, second = split_reference(theirs.blocks, seed=seed + split)
        pairs.append((theirs.pick(first, size, seed + 1), theirs.pick(second, size, seed + 2)))
    few = min(size, n_transport)
    result = []
    for name, (function, count) in _metrics(mine, theirs, size, few).items():
        value, *floors = [function(a, b) for a, b in pairs]
        result.append(Distance(name, count, value, float(np.mean(floors))))
    return result


def _comparable(ensemble: Ensemble, reference: Ensemble) -> None:
    if ensemble.topology.elements != reference.topology.elements:
        raise InputError(
            f"reference: {reference.topology.n_atoms} atoms, the ensemble has {ensemble.topology.n_atoms}, or in "
            "another order; give a reference of the same molecule"
        )
    if abs(ensemble.temperature - reference.temperature) > 1e-6:
        raise InputError(
            f"reference: made at {reference.temperature:g} K, the ensemble at {ensemble.temperature:g} K; "
            "give one at the same temperature"
        )


Metric = Callable[[Sample, Sample], float]


def _metrics(mine: Sample, theirs: Sample, size: int, few: int) -> dict[str, tuple[Metric, int]]:
    """Every metric that both sides allow, with its sample size."""
    found: dict[str, tuple[Metric, int]] = {}
    if mine.energies is not None and theirs.energies is not None:
        found["e_w1"] = (lambda a, b: wasserstein(_given(a.energies), _given(b.energies), order=1), size)
        found["e_w2"] = (lambda a, b: wasserstein(_given(a.energies), _given(b.energies), order=2), size)
    if mine.angles.shape[1]:
        found["t_w2"] = (lambda a, b: torus_w2(a.angles[:few], b.angles[:few]), few)
    if mine.plane.shape[1]:
        jsd, tv = f"ram_jsd_{JSD_BINS}x{JSD_BINS}_bits", f"ram_tv_{TV_BINS}x{TV_BINS}"
        found[jsd] = (lambda a, b: ramachandran_jsd(a.plane, b.plane, bins=JSD_BINS), size)
        found[tv] = (lambda a, b: ramachandran_tv(a.plane, b.plane, bins=TV_BINS), size)
    if mine.slow is not None and theirs.slow is not None:
        found["tica_w2"] = (lambda a, b: plane_w2(_given(a.slow)[:few], _given(b.slow)[:few]), few)
    return found


def _given(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None
    return values
