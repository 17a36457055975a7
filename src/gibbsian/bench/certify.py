"""From several seeds of a simulation to one certified reference."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.bench.rows import Row
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import ramachandran, residue_label
from gibbsian.ensemble.reference import Histogram, Reference, ReferenceBasin, SlowModes, binned, combine
from gibbsian.ensemble.weights import Estimate
from gibbsian.evaluate.observables import radius_of_gyration
from gibbsian.evaluate.slow_modes import Tica, features, fit_tica

Floats = NDArray[np.float64]

_PLANE = ((-180.0, 180.0, 36), (-180.0, 180.0, 36))
_LINE_BINS, _SLOW_BINS = 100, 36
_TAIL = 1e-3  # probability beyond which a histogram's axis may end
_TICA_FRAMES = 20_000
_CHUNK = 20_000


def certify(
    name: str,
    key: Mapping[str, Any],
    rows: Sequence[Row],
    ensembles: Iterable[Ensemble],
    continuous: Ensemble,
    lag_ps: float,
) -> Reference:
    """Combine independent simulations of one system.

    Parameters
    ----------
    name, key
        Of the system.
    rows
        One `exchange` row per seed.
    ensembles
        Their weighted frames, in the same order; taken one at a time.
    continuous
        Single-temperature runs, one lineage each, in order of time. Slow modes are fitted on these alone; their
        histogram is that of the weighted ensembles, which hold the equilibrium.
    lag_ps
        Lag of the slow modes.
    """
    tica, lag_ps = tica_of(continuous, lag_ps)
    # The file holds so many digits; the histogram must belong to the projection that its readers get.
    tica = replace(tica, mean=_shortened(tica.mean), components=_shortened(tica.components))
    axes: dict[str, tuple[tuple[float, float, int], ...]] = {}
    sums: dict[str, Floats] = {}
    units: dict[str, str] = {}
    for ensemble in ensembles:
        for what, (values, unit, bins) in _quantities(ensemble, tica).items():
            if what not in axes:
                axes[what] = _PLANE if unit == "deg" else _axes(values, ensemble.weights, bins)
            counts = histogram(values, ensemble.weights, axes[what])
            sums[what] = sums.get(what, 0.0) + counts / len(rows)
            units[what] = unit
    found = {what: Histogram(axes[what], sums[what], units[what]) for what in sums}
    slow = found.pop("slow")
    energy, size = found.pop("energy"), found.pop("radius of gyration")
    return Reference(
        system=name,
        key=dict(key),
        basins=combined_basins(rows),
        ramachandran=found,
        energy=energy,
        radius_of_gyration=size,
        slow_modes=SlowModes(tica.mean, tica.components, tica.eigenvalues, lag_ps, slow),
        seeds=tuple(row.key.seed or 0 for row in rows),
        commands=tuple(row.key.command for row in rows),
        provenance={"budget": dict(rows[0].budget), "hardware": dict(rows[0].hardware)},
    )


def combined_basins(rows: Sequence[Row]) -> tuple[ReferenceBasin, ...]:
    """Every basin over all seeds, see `gibbsian.ensemble.reference.combine`."""
    names = [name.removeprefix("probability ") for name in rows[0].metrics if name.startswith("probability ")]
    return tuple(
        ReferenceBasin(name, _combined(rows, f"free_energy {name}"), _combined(rows, f"probability {name}"))
        for name in names
    )


def _combined(rows: Sequence[Row], name: str) -> Estimate:
    metrics = [row.metrics[name] for row in rows]
    return combine(
        [Estimate(math.nan if m.value is None else m.value, math.inf if m.error is None else m.error) for m in metrics]
    )


def tica_of(continuous: Ensemble, lag_ps: float) -> tuple[Tica, float]:
    """Slow modes of runs that are one lineage each, and the lag used in ps: whole frames, thinned if there are many."""
    runs, frame_ps = _runs(continuous)
    lag = max(1, round(lag_ps / frame_ps))
    return fit_tica(runs, lag=lag), lag * frame_ps


def tica_out_of_sample(continuous: Ensemble, lag_ps: float) -> Floats:
    """Autocorrelations (k,) of the modes fitted on one half of the runs in the other half, mean of both ways.

    Far below the eigenvalues where there are too few frames for so many features.
    """
    runs, frame_ps = _runs(continuous)
    lag = max(1, round(lag_ps / frame_ps))
    found = []
    for fitted, tested in ((runs[::2], runs[1::2]), (runs[1::2], runs[::2])):
        tica = fit_tica(fitted, lag=lag)
        modes = [tica.transform(run) for run in tested]
        start, end = np.concatenate([m[:-lag] for m in modes]), np.concatenate([m[lag:] for m in modes])
        mean = (start.mean(axis=0) + end.mean(axis=0)) / 2
        start, end = start - mean, end - mean
        found.append(2 * (start * end).mean(axis=0) / (start**2 + end**2).mean(axis=0))
    return np.mean(found, axis=0)


def _runs(continuous: Ensemble) -> tuple[list[Floats], float]:
    """Features of each run, thinned to a number of frames that fits in memory, and the time between them in ps."""
    assert continuous.lineage is not None
    stride = math.ceil(len(continuous) / _TICA_FRAMES)
    settings = continuous.provenance["settings"]
    frame_ps = settings["save_every"] * settings["timestep"] * stride
    runs = [
        features(continuous.topology, continuous.positions[continuous.lineage == run][::stride])
        for run in np.unique(continuous.lineage)
    ]
    return runs, frame_ps


def _shortened(values: Floats) -> Floats:
    return np.array([float(f"{value:.5g}") for value in values.ravel()]).reshape(values.shape)


def histogram(values: Floats, weights: Floats, axes: Sequence[tuple[float, float, int]]) -> Floats:
    """Probabilities on a grid of `values` (n, k) with `weights` (n,); what lies outside goes to the edge."""
    counts = binned(values, weights, axes)
    return counts / counts.sum()


def _quantities(ensemble: Ensemble, tica: Tica) -> dict[str, tuple[Floats, str, int]]:
    """Values (n, k), unit and bins of everything that has a histogram; torsions by residue label."""
    topology, x = ensemble.topology, ensemble.positions
    assert ensemble.u is not None
    residues, angles = ramachandran(topology, x)
    found = {
        residue_label(topology, residue): (np.degrees(angles[:, k]), "deg", _PLANE[0][2])
        for k, residue in enumerate(residues.tolist())
    }
    size = _chunked(lambda part: radius_of_gyration(topology, part)[:, None], x)
    slow = _chunked(lambda part: tica.transform(features(topology, part)), x)
    return {
        **found,
        "energy": (ensemble.u[:, None], "kT", _LINE_BINS),
        "radius of gyration": (size, "nm", _LINE_BINS),
        "slow": (slow, "", _SLOW_BINS),
    }


def _chunked(function: Callable[[NDArray[np.float32]], Floats], x: NDArray[np.float32]) -> Floats:
    """Apply to a stretch of conformations at a time: features of all would not fit in memory."""
    return np.concatenate([function(x[k : k + _CHUNK]) for k in range(0, len(x), _CHUNK)])


def _axes(values: Floats, weights: Floats, bins: int) -> tuple[tuple[float, float, int], ...]:
    """Range of each column (n, k) without its extreme tails, a tenth wider on either side, to four digits."""
    axes = []
    for column in values.T:
        order = np.argsort(column)
        share = np.cumsum(weights[order])
        low, high = column[order][np.searchsorted(share, (_TAIL, 1 - _TAIL))]
        margin = 0.1 * max(high - low, 1e-6 * max(abs(high), 1.0))
        axes.append((float(f"{low - margin:.6g}"), float(f"{high + margin:.6g}"), bins))
    return tuple(axes)
