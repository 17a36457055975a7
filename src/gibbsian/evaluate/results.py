"""Everything about one ensemble in the form of ``results.json``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import UnreliableError
from gibbsian.evaluate.metrics import compare
from gibbsian.evaluate.observables import averages, observables
from gibbsian.evaluate.slow_modes import Tica
from gibbsian.evaluate.verdict import BasinShare, judge
from gibbsian.sampling.forward import ForwardEss

Results = dict[str, Any]
"""The content of ``results.json``; numbers that do not exist are None, so that it is valid JSON."""


def evaluate(
    ensemble: Ensemble,
    *,
    reference: Ensemble | None = None,
    data: Ensemble | None = None,
    forward: ForwardEss | None = None,
    system: str = "",
    recipe: str = "",
    seed: int | None = None,
    pairs: Sequence[tuple[int, int]] = (),
    tica: Tica | None = None,
    n_compare: int = 10_000,
    n_transport: int = 2000,
    performance: Mapping[str, Any] | None = None,
) -> Results:
    """Evaluate an ensemble, alone or against a reference.

    Parameters
    ----------
    ensemble
        What is judged.
    reference
        Trusted ensemble of the same molecule at the same temperature.
    data
        Simulation data that the model was trained on; takes the place of a reference where there is none.
    forward
        From `gibbsian.sampling.forward.forward_ess` on held-out frames.
    system, recipe, seed
        Labels.
    pairs, tica, n_compare, n_transport
        As in `observables` and `compare`.
    performance
        Times, calls, rates; copied, and no part of any comparison.

    Returns
    -------
    dict
        ``system, recipe, seed, samples, ess, forward_ess, k_hat, log_z, basins, observables, distances,
        verdict, performance``. ``log_z`` and ``forward_ess`` are None where unknown, as is a reference column.

    Raises
    ------
    UnreliableError
        If every weight is zero.
    InputError
        If the reference is of another molecule or temperature.
    """
    if ensemble.ess == 0:
        raise UnreliableError(
            f"ensemble: all {len(ensemble)} weights are zero; the model does not fit the target, train anew"
        )
    compared = reference if reference is not None else data
    distances = [] if compared is None else compare(ensemble, compared, n=n_compare, n_transport=n_transport, tica=tica)
    trusted = [other for other in (reference, data) if other is not None]
    verdict = judge(ensemble, basins=_shares(ensemble, trusted), forward=forward)
    found = observables(ensemble.topology, ensemble.positions, pairs=pairs)
    weighted = ensemble.log_w > -math.inf
    results = {
        "system": system,
        "recipe": recipe,
        "seed": seed,
        "samples": {"proposed": len(ensemble), "finite": int(weighted.sum()), "clipped": 0},
        "ess": {"count": ensemble.ess, "fraction": ensemble.ess_fraction},
        "forward_ess": None if forward is None else {"fraction": forward.fraction, "n": forward.n},
        "k_hat": ensemble.k_hat,
        "log_z": None if ensemble.log_q is None else dict(ensemble.log_z._asdict()),
        "basins": _basins(ensemble, compared),
        "observables": averages(ensemble, found),
        "distances": [asdict(distance) for distance in distances],
        "verdict": {"reliable": verdict.reliable, "reasons": list(verdict.reasons)},
        "performance": dict(performance or {}),
    }
    return _plain(results)


def _basins(ensemble: Ensemble, compared: Ensemble | None) -> list[dict[str, Any]]:
    """Rows of the basin table."""
    theirs = {} if compared is None else basin_masks(compared.topology, compared.positions)
    rows = []
    for name, mask in basin_masks(ensemble.topology, ensemble.positions).items():
        value, error = ensemble.free_energy(mask)
        column = None
        if compared is not None and name in theirs:
            column = dict(compared.free_energy(theirs[name])._asdict())
        own = {"value": value, "error": error, "unit": "kT"}
        rows.append({"name": name, "free_energy": own, "reference": column})
    return rows


def _shares(ensemble: Ensemble, trusted: Sequence[Ensemble]) -> tuple[BasinShare, ...]:
    """Share of each basin, and the largest that a reference or the data give it: neither may lose it."""
    theirs: dict[str, float] = {}
    for other in trusted:
        for name, mask in basin_masks(other.topology, other.positions).items():
            theirs[name] = max(theirs.get(name, 0.0), float(other.weights @ mask))
    mine = basin_masks(ensemble.topology, ensemble.positions)
    return tuple(
        BasinShare(name, float(ensemble.weights @ mask), theirs[name]) for name, mask in mine.items() if name in theirs
    )


def _plain(value: Any) -> Any:
    """Copy with plain numbers only; None for what is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None
