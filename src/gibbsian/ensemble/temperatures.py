"""Weighted conformations of one temperature as those of another."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError


def log_weights_at(data: Ensemble, temperature: float) -> NDArray[np.float64]:
    """Log weights (n,) of the conformations towards another temperature (K): log w + (1 - T0 / T) u.

    Raises
    ------
    InputError
        If the temperature is not positive, or the data have no energies.
    """
    if not temperature > 0:
        raise InputError(f"temperature: got {temperature} K; give a positive number")
    if data.u is None:
        raise InputError("data without energies cannot be weighted for another temperature; give some with energies")
    finite = np.isfinite(data.u)
    shift = (1.0 - data.temperature / temperature) * np.where(finite, data.u, 0.0)
    return np.where(finite, data.log_w + shift, -np.inf)


def reweighted(data: Ensemble, temperature: float) -> Ensemble:
    """Return the same conformations as an ensemble at another temperature (K), with its reduced energies.

    Raises
    ------
    InputError
        As `log_weights_at`.
    """
    log_w = log_weights_at(data, temperature)
    assert data.u is not None
    return replace(data, log_w=log_w, u=data.u * (data.temperature / temperature), temperature=temperature)
