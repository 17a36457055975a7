"""Heat capacity and basin free energies against temperature, from weighted samples at each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import expectation
from gibbsian.ensemble.temperatures import reweighted
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.evaluate.results import plain
from gibbsian.evaluate.verdict import effective_number, judge
from gibbsian.units import BOLTZMANN, kt

_MARGIN = 1.001
"""Rounding of a ladder that ends where the scan does."""


def mean_energy(ensemble: Ensemble) -> Estimate:
    """Average potential energy <U>, kJ/mol."""
    value, error = expectation(_energies(ensemble), ensemble.log_w, lineage=ensemble.lineage)
    thermal = kt(ensemble.temperature)
    return Estimate(thermal * value, thermal * error)


def heat_capacity(ensemble: Ensemble) -> Estimate:
    """Return the configurational part of the heat capacity, (<U^2> - <U>^2) / (k T^2) = k var(u), kJ/mol/K.

    Motion adds 3 N k / 2 whatever the potential. The error is that of the mean of (u - <u>)^2, over lineages where
    there are any: to first order the error of <u> does not enter.

    Raises
    ------
    InputError
        If the ensemble has no energies, or every weight is zero.
    """
    u = _energies(ensemble)
    average, _ = expectation(u, ensemble.log_w, lineage=ensemble.lineage)
    value, error = expectation((u - average) ** 2, ensemble.log_w, lineage=ensemble.lineage)
    return Estimate(BOLTZMANN * value, BOLTZMANN * error)


def _energies(ensemble: Ensemble) -> np.ndarray:
    if ensemble.u is None:
        raise InputError("heat capacity: the ensemble has no energies; give one with u")
    return ensemble.u


def against_temperature(scan: Sequence[Ensemble], data: Ensemble | None = None) -> dict[str, Any]:
    """Return what changes with temperature, in the form of ``results.json``.

    Parameters
    ----------
    scan
        Weighted samples at each temperature.
    data
        Simulation data to compare with: replica exchange, reweighted to its own temperatures within those of `scan`, or
        to those of `scan` where it names none.

    Returns
    -------
    dict
        ``model`` and ``data``, lists of rows in rising temperature: ``temperature`` (K), ``samples``, ``ess``
        (``count``, ``fraction``), ``k_hat``, ``reliable``, ``log_z`` (None for data), ``energy`` (kJ/mol),
        ``heat_capacity`` (kJ/mol/K), ``basins`` (kT); each value with its error.
    """
    model = sorted(scan, key=lambda ensemble: ensemble.temperature)
    known: list[Ensemble] = []
    if data is not None and data.u is not None:
        known = [reweighted(data, t) for t in _ladder(data, [ensemble.temperature for ensemble in model])]
    rows = {"model": [_row(ensemble) for ensemble in model], "data": [_row(ensemble) for ensemble in known]}
    return plain(rows)


def _ladder(data: Ensemble, scanned: Sequence[float]) -> list[float]:
    own = (data.provenance.get("settings") or {}).get("temperatures") or ()
    low, high = min(scanned) / _MARGIN, max(scanned) * _MARGIN
    return sorted(t for t in own if low <= t <= high) or list(scanned)


def _row(ensemble: Ensemble) -> dict[str, Any]:
    effective = effective_number(ensemble)
    row: dict[str, Any] = {
        "temperature": ensemble.temperature,
        "samples": len(ensemble),
        "ess": {"count": effective, "fraction": effective / len(ensemble)},
        "k_hat": ensemble.k_hat,
        "reliable": ensemble.ess > 0 and judge(ensemble).reliable,
        "log_z": None if ensemble.log_q is None else ensemble.log_z._asdict(),
    }
    if ensemble.ess == 0:
        return row | {"energy": None, "heat_capacity": None, "basins": []}
    basins = [
        {"name": name, "free_energy": {**ensemble.free_energy(mask)._asdict(), "unit": "kT"}}
        for name, mask in basin_masks(ensemble.topology, ensemble.positions).items()
    ]
    return row | {
        "energy": {**mean_energy(ensemble)._asdict(), "unit": "kJ/mol"},
        "heat_capacity": {**heat_capacity(ensemble)._asdict(), "unit": "kJ/mol/K"},
        "basins": basins,
    }
