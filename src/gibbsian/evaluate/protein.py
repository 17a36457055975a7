"""What results.json says of a protein: backbone distances, clashes and energies (arXiv 2401.04246).

Each figure of the paper stands beside what makes it readable: data against data, the reweighted ensemble, all
conformations instead of the better half.
"""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.atoms import has_fold
from gibbsian.ensemble.draws import by_weight, drawn, sound
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.backbone import backbone_distances, energy_statistics
from gibbsian.evaluate.clashes import clash_share
from gibbsian.evaluate.peaks import energy_peaks

Record = dict[str, Any]

LEAST = 2
"""Conformations that have statistics."""


def backbone(ensemble: Ensemble, data: Ensemble | None, *, n: int = 2000) -> Record | None:
    """Compare an ensemble of a protein with data; None below four alpha carbons.

    Parameters
    ----------
    ensemble
        With at least one weight that is not zero. What is said of it as generated is of its draws, equally weighted,
        where they are known, else of itself.
    data
        Of the same molecule, counted by weight; without it the ensemble stands alone.
    n
        Conformations of each side in distances and clashes; of more that many are drawn by weight.

    Returns
    -------
    dict
        ``distances``: Delta-D and the difference of mean distances, Angstrom, of the draws (``_unweighted``) and of the
        ensemble, with their floors. ``clashes``: of ``data`` and of ``ensemble`` as generated the shares of
        conformations with a clash of heavy atoms (``any``) and of ``backbone`` atoms; coordinates that are not finite
        clash. ``energy``: of both, kT, see `gibbsian.evaluate.backbone.EnergyStatistics.as_record`; the weighted mean
        is that of the ensemble, the rest as generated. ``peaks`` are the Gaussians that energies as generated are made
        of (see `gibbsian.evaluate.peaks.energy_peaks`), each with its population in the ensemble: a peak of the
        generator is none of the target.
    """
    if not has_fold(ensemble.topology):
        return None
    draws = drawn(ensemble)
    generated = ensemble if draws is None else draws
    return {
        "distances": [] if data is None else _distances(ensemble, draws, data, n),
        "clashes": {"data": None if data is None else _clashes(data, n), "ensemble": _clashes(generated, n)},
        "energy": {
            "data": None if data is None else _energies(data, data),
            "ensemble": _energies(generated, ensemble),
        },
    }


def _distances(ensemble: Ensemble, draws: Ensemble | None, data: Ensemble, n: int) -> list[Record]:
    found = []
    if draws is not None:
        found += backbone_distances(sound(draws), data, weighted=False, n=n)
    found += backbone_distances(sound(ensemble), data, n=n)
    return [asdict(distance) for distance in found]


def _clashes(ensemble: Ensemble, n: int) -> Record:
    x = ensemble.positions[by_weight(ensemble, n, least=LEAST)]
    x = np.where(np.isfinite(x).all(axis=(1, 2), keepdims=True), x, np.float32(0.0))  # all atoms at one place
    shares = {"any": clash_share(ensemble.topology, x), "backbone": clash_share(ensemble.topology, x, "backbone")}
    return {"n": len(x), **shares}


def _energies(generated: Ensemble, weighted: Ensemble) -> Record | None:
    """Energies of `generated`, drawn by weight, and the mean of `weighted`; None where they are not known."""
    if generated.u is None or weighted.u is None or len(generated) < LEAST:
        return None
    u = generated.u[by_weight(generated, len(generated), least=LEAST)]
    found = replace(energy_statistics(u), weighted=weighted.expectation(weighted.u))
    return found.as_record("kT") | {"peaks": _peaks(u, weighted)}


def _peaks(u: NDArray[np.float64], weighted: Ensemble) -> list[Record]:
    """Gaussians in energies, the lowest first, and how much of the weighted ensemble is in each; [] of too few."""
    try:
        found = energy_peaks(u)
    except InputError:
        return []
    assert weighted.u is not None
    member = found.members(weighted.u)
    return [
        {
            "mean": float(mean),
            "sd": float(deviation),
            "share": float(share),
            "population": weighted.expectation(member == k)._asdict(),
        }
        for k, (mean, deviation, share) in enumerate(
            zip(found.mixture.means, found.mixture.deviations, found.mixture.shares, strict=True)
        )
    ]
