"""Everything about one ensemble in the form of ``results.json``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.reference import Reference
from gibbsian.errors import UnreliableError
from gibbsian.evaluate.certified import ramachandran_distance, source
from gibbsian.evaluate.metrics import compare
from gibbsian.evaluate.observables import averages, observables
from gibbsian.evaluate.protein import backbone
from gibbsian.evaluate.slow_modes import Tica
from gibbsian.evaluate.verdict import BasinShare, effective_number, judge
from gibbsian.sampling.forward import ForwardEss

Results = dict[str, Any]
"""The content of ``results.json``; numbers that do not exist are None, so that it is valid JSON."""


def evaluate(
    ensemble: Ensemble,
    *,
    reference: Ensemble | None = None,
    data: Ensemble | None = None,
    certified: Reference | None = None,
    forward: ForwardEss | None = None,
    system: str = "",
    recipe: str = "",
    seed: int | None = None,
    target: str = "full",
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
    certified
        What is known of the system. The reference column is then from it, its basins must not be lost unless they
        are rare, and the Ramachandran plots are compared with its own; other distances stay with `reference` or `data`.
    forward
        From `gibbsian.sampling.forward.forward_ess` on held-out frames.
    system, recipe, seed
        Labels.
    target
        Of the weights: ``completed`` where the coordinates that a flow leaves out were drawn by a completion.
    pairs, tica, n_compare, n_transport
        As in `observables` and `compare`; `n_transport` conformations are compared by `backbone`, too.
    performance
        Times, calls, rates; copied, and no part of any comparison.

    Returns
    -------
    dict
        ``system, recipe, seed, samples, target, ess, forward_ess, k_hat, log_z, reference, basins, observables,
        distances, backbone, verdict, performance``. ``log_z`` and ``forward_ess`` are None where unknown, as is a
        reference column; ``reference`` says where that is from. ``backbone`` is that of
        `gibbsian.evaluate.protein.backbone`.

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
    plane = None if certified is None else ramachandran_distance(ensemble, certified)
    trusted = [other for other in (reference, data) if other is not None]
    found = observables(ensemble.topology, ensemble.positions, pairs=pairs)
    results = {
        "system": system,
        "recipe": recipe,
        "seed": seed,
        **_weights(ensemble, forward, target),
        "reference": _source(reference, data, certified),
        "basins": _basins(ensemble, compared, certified),
        "observables": averages(ensemble, found),
        "distances": [asdict(distance) for distance in (*distances, plane) if distance is not None],
        "backbone": backbone(ensemble, compared, n=n_transport),
        "verdict": _verdict(ensemble, trusted, certified, forward),
        "performance": dict(performance or {}),
    }
    return plain(results)


def _verdict(
    ensemble: Ensemble, trusted: Sequence[Ensemble], certified: Reference | None, forward: ForwardEss | None
) -> dict[str, Any]:
    """Say whether to believe the weights."""
    # Samples of a Markov chain do not inherit what the proposal lacks.
    covered = None if ensemble.provenance.get("method") == "exchange" else forward
    verdict = judge(ensemble, basins=_shares(ensemble, trusted, certified), forward=covered)
    return {"reliable": verdict.reliable, "reasons": list(verdict.reasons)}


def _weights(ensemble: Ensemble, forward: ForwardEss | None, target: str) -> dict[str, Any]:
    """Say how many samples there are, and of what target and what worth their weights are."""
    effective = effective_number(ensemble)
    finite = int((ensemble.log_w > -math.inf).sum())
    return {
        "samples": {"proposed": len(ensemble), "finite": finite, **_bias(ensemble)},
        "target": target,
        "ess": {"count": effective, "fraction": effective / len(ensemble)},
        "forward_ess": None if forward is None else forward._asdict(),
        "k_hat": ensemble.k_hat,
        "log_z": None if ensemble.log_q is None else dict(ensemble.log_z._asdict()),
    }


def _bias(ensemble: Ensemble) -> dict[str, Any]:
    """Say what no error bar shows of what was done to the samples; ``clipped`` counts weights that were changed."""
    made = ensemble.provenance
    clipping = made.get("clipping") or {}
    found: dict[str, Any] = {"clipped": clipping.get("count", 0)}
    if made.get("method") in ("smc", "exchange", "langevin"):
        found["method"] = made["method"]
    if not made.get("weighted", True):
        found["weighted"] = False
    if clipping:
        found |= {"clipped_fraction": clipping["fraction"], "ess_unclipped": clipping.get("ess_unclipped")}
    if "truncation" in made:
        found["truncation"] = made["truncation"]
    if "exact" in made:
        found["exact"] = made["exact"]
    return found


def _source(reference: Ensemble | None, data: Ensemble | None, certified: Reference | None) -> dict[str, Any] | None:
    """Where the reference column is from."""
    if certified is not None:
        return source(certified)
    if reference is None and data is None:
        return None
    return {"source": "data" if reference is None else "ensemble", "file": None}


def _basins(ensemble: Ensemble, compared: Ensemble | None, certified: Reference | None) -> list[dict[str, Any]]:
    """Rows of the basin table; `gated` is whether a certified reference may judge by the basin."""
    theirs = {} if compared is None else basin_masks(compared.topology, compared.positions)
    rows = []
    for name, mask in basin_masks(ensemble.topology, ensemble.positions).items():
        value, error = ensemble.free_energy(mask)
        known = None if certified is None else certified.basin(name)
        column = None
        if known is not None:
            column = dict(known.free_energy._asdict())
        elif certified is None and compared is not None and name in theirs:
            column = dict(compared.free_energy(theirs[name])._asdict())
        own = {"value": value, "error": error, "unit": "kT"}
        gated = None if known is None else known.gated
        rows.append({"name": name, "free_energy": own, "reference": column, "gated": gated})
    return rows


def _shares(ensemble: Ensemble, trusted: Sequence[Ensemble], certified: Reference | None) -> tuple[BasinShare, ...]:
    """Share of each basin, and the largest that a reference or the data give it: none of them may be lost."""
    theirs: dict[str, float] = {}
    for other in trusted:
        for name, mask in basin_masks(other.topology, other.positions).items():
            theirs[name] = max(theirs.get(name, 0.0), float(other.weights @ mask))
    for basin in () if certified is None else certified.basins:
        if basin.gated:
            theirs[basin.name] = max(theirs.get(basin.name, 0.0), basin.probability.value)
    mine = basin_masks(ensemble.topology, ensemble.positions)
    return tuple(
        BasinShare(name, float(ensemble.weights @ mask), theirs[name]) for name, mask in mine.items() if name in theirs
    )


def plain(value: Any) -> Any:
    """Return a copy with plain numbers only, None for what is not finite, as JSON wants it."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None
