"""How well an ensemble of a protein agrees with data: backbone distances, fluctuations, energies (arXiv 2401.04246).

Each figure of the paper stands beside what makes it readable: data against data, the reweighted value, all samples
instead of the better half.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.coords.align import superpose
from gibbsian.ensemble.atoms import Selection, select
from gibbsian.ensemble.distances import split_reference
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import blocks_of, expectation, mean
from gibbsian.ensemble.weights import Estimate, resample
from gibbsian.errors import InputError
from gibbsian.evaluate.metrics import Distance

Floats = NDArray[np.float64]

ANGSTROM = 10.0
"""Angstrom per nm."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.999)
_CELLS = 2_000_000
"""Distances held at once."""
_FRAMES = 4096


def delta_d(
    q: NDArray[np.floating],
    p: NDArray[np.floating],
    *,
    weights_q: Floats | None = None,
    weights_p: Floats | None = None,
) -> float:
    """Mean absolute difference of atom distances between conformations of two sets, Angstrom.

    Definition 3.1 of arXiv 2401.04246: the mean over all pairs (x_q, x_p) and all i < j of |D_ij(x_q) - D_ij(x_p)|.
    The paper averages over batches of 1000; this is the exact mean over all cross pairs, which is what they estimate:
    for one distance with distribution functions F and G it is the integral of F (1 - G) + G (1 - F). It is not
    zero for equal distributions: see `backbone_distances`.

    Parameters
    ----------
    q, p
        (n, a, 3), (m, a, 3) nm, the atoms compared.
    weights_q, weights_p
        Non-negative, normalised here; None for equal weights.

    Raises
    ------
    InputError
        If the atoms are not as many on both sides, or fewer than two.
    """
    return _differences(q, p, weights_q, weights_p)[0]


def delta_mean(
    q: NDArray[np.floating],
    p: NDArray[np.floating],
    *,
    weights_q: Floats | None = None,
    weights_p: Floats | None = None,
) -> float:
    """Mean over atom pairs of the absolute difference of their mean distances, Angstrom; arguments as in `delta_d`.

    It vanishes for equal distributions, up to noise. A published Delta-D below that of the data from themselves does
    not follow its definition; this is what it may be compared with.
    """
    return _differences(q, p, weights_q, weights_p)[1]


def _differences(
    q: NDArray[np.floating], p: NDArray[np.floating], weights_q: Floats | None, weights_p: Floats | None
) -> tuple[float, float]:
    """Both of the above."""
    if q.shape[1:] != p.shape[1:] or q.shape[1] < 2:
        raise InputError(f"Delta-D: atoms {q.shape[1:]} against {p.shape[1:]}; give the same ones, at least two")
    mass = np.concatenate([_shares(len(q), weights_q), -_shares(len(p), weights_p)])
    first, second = np.triu_indices(q.shape[1], 1)
    step = max(1, _CELLS // len(mass))
    crossed, averaged = 0.0, 0.0
    for start in range(0, len(first), step):
        i, j = first[start : start + step], second[start : start + step]
        distances = np.concatenate([np.linalg.norm(x[:, i].astype(float) - x[:, j], axis=-1) for x in (q, p)])
        order = np.argsort(distances, axis=0)
        gaps = np.diff(np.take_along_axis(distances, order, 0), axis=0)
        signed = mass[order][:-1]
        f, g = np.cumsum(np.maximum(signed, 0), axis=0), np.cumsum(np.maximum(-signed, 0), axis=0)
        crossed += float((gaps * (f * (1 - g) + g * (1 - f))).sum())
        averaged += float(np.abs(mass @ distances).sum())
    return ANGSTROM * crossed / len(first), ANGSTROM * averaged / len(first)


def _shares(n: int, weights: Floats | None) -> Floats:
    if weights is None:
        return np.full(n, 1 / n)
    if weights.shape != (n,) or not weights.sum() > 0:
        raise InputError(f"weights: shape {weights.shape} for {n} conformations, or all zero; give one for each")
    return weights / weights.sum()


def backbone_distances(
    q: Ensemble,
    p: Ensemble,
    *,
    atoms: Selection = "backbone",
    weighted: bool = True,
    n: int = 10_000,
    splits: int = 3,
    seed: int = 0,
) -> list[Distance]:
    """Delta-D of an ensemble from data and the difference of mean distances, Angstrom, beside those of data from data.

    Parameters
    ----------
    q, p
        Of the same molecule; the data count with their weights.
    atoms
        ``backbone`` as in the paper, or ``ca``.
    weighted
        Whether the ensemble counts with its weights too; the paper does not reweight.
    n
        Of more conformations that many are drawn by weight.
    splits
        The floor is the mean over so many divisions of the data into two halves, by lineage.
    """
    if q.topology.elements != p.topology.elements:
        raise InputError(f"Delta-D: {q.topology.n_atoms} against {p.topology.n_atoms} atoms; give the same molecule")
    chosen = select(q.topology, atoms)
    weights_q = q.weights if weighted else np.full(len(q), 1 / len(q))
    mine, w = _drawn(q, chosen, weights_q, np.arange(len(q)), n, seed)
    theirs, v = _drawn(p, chosen, p.weights, np.arange(len(p)), n, seed + 1)
    blocks = np.arange(len(p)) if p.lineage is None else blocks_of(p.lineage)
    values = _differences(mine, theirs, w, v)
    floors = []
    for split in range(splits):
        halves = split_reference(blocks, seed=seed + split)
        (a, w_a), (b, w_b) = (_drawn(p, chosen, p.weights, half, n, seed + split) for half in halves)
        floors.append(_differences(a, b, w_a, w_b))
    names = (f"{kind}_{atoms}" + ("" if weighted else "_unweighted") for kind in ("delta_d", "delta_mean"))
    rows = zip(names, values, np.mean(floors, axis=0).tolist(), strict=True)
    return [Distance(name, len(mine), value, floor) for name, value, floor in rows]


def _drawn(
    ensemble: Ensemble, atoms: NDArray[np.int64], weights: Floats, rows: NDArray[np.int64], n: int, seed: int
) -> tuple[NDArray[np.float32], Floats]:
    """Positions of some atoms in those of the `rows` that have weight, at most `n` draws, and their weights."""
    rows = rows[weights[rows] > 0]
    share = weights[rows]
    if len(rows) > n:
        index, counts = np.unique(resample(share, n, seed=seed), return_counts=True)
        rows, share = rows[index], counts.astype(np.float64)
    return ensemble.positions[np.ix_(rows, atoms)], share


@dataclass(frozen=True, eq=False)
class Fluctuations:
    """Root-mean-square fluctuation of each alpha carbon.

    Attributes
    ----------
    residues
        (k,) residues that have one.
    values, errors
        (k,) nm; errors over lineages, else over samples.
    mean
        (k, 3) nm, mean structure of the superposed ensemble.
    """

    residues: NDArray[np.int64]
    values: Floats
    errors: Floats
    mean: Floats


def rmsf(ensemble: Ensemble, *, weighted: bool = True, rounds: int = 10) -> Fluctuations:
    """Fluctuations of the alpha carbons about their mean, conformations superposed on the mean structure.

    Parameters
    ----------
    weighted
        Count conformations by weight (the reweighted ensemble) or equally (as they were generated).
    rounds
        Superpositions on the mean of the one before, from the conformation of the largest weight on; fewer once the
        mean stands still within 1e-6 nm.
    """
    atoms = select(ensemble.topology, "ca")
    log_w = ensemble.log_w if weighted else np.zeros(len(ensemble))
    used = np.flatnonzero(np.isfinite(log_w) & np.isfinite(ensemble.positions[:, atoms]).all(axis=(1, 2)))
    if not len(used):
        raise InputError("RMSF: no conformation of positive weight has finite positions; sample anew")
    log_w = log_w[used]
    x = torch.tensor(ensemble.positions[np.ix_(used, atoms)], dtype=torch.float64)
    weights = torch.as_tensor(np.exp(log_w - log_w.max()))
    weights = weights / weights.sum()
    centre, moved = x[int(weights.argmax())], x
    for _ in range(rounds):
        moved = torch.cat([superpose(part, centre)[0] for part in x.split(_FRAMES)])
        before, centre = centre, torch.einsum("b,bai->ai", weights, moved)
        if float((centre - before).abs().max()) < 1e-6:
            break
    squares = (moved - centre).square().sum(-1).numpy()
    lineage = None if ensemble.lineage is None else ensemble.lineage[used]
    value, error = mean(squares, log_w, lineage=lineage)
    values = np.sqrt(value)
    errors = np.divide(error, 2 * values, out=np.zeros_like(values), where=values > 0)
    return Fluctuations(ensemble.topology.residue_index[atoms], values, errors, centre.numpy())


@dataclass(frozen=True)
class EnergyStatistics:
    """Energies of an ensemble, in the unit they were given in.

    Attributes
    ----------
    n, finite
        Samples, and those with a finite energy; the others count as infinite.
    mean, deviation
        Over all samples, equally weighted: infinite if one is.
    lower_half_mean, lower_half_deviation
        Over the samples below the median: the convention of arXiv 2401.04246, which hides every clash.
    quantiles
        Of all samples, equally weighted: those of `QUANTILES`.
    weighted
        Mean with the weights and its standard error; None without weights.
    """

    n: int
    finite: int
    mean: float
    deviation: float
    lower_half_mean: float
    lower_half_deviation: float
    quantiles: dict[float, float]
    weighted: Estimate | None

    def as_record(self, unit: str) -> dict[str, Any]:
        """Return the figures as they belong in a table, the paper's convention by its name."""
        return {
            "unit": unit,
            "n": self.n,
            "finite": self.finite,
            "all": {"mean": self.mean, "sd": self.deviation},
            "lower_half": {"mean": self.lower_half_mean, "sd": self.lower_half_deviation},
            "quantiles": {f"{q:g}": value for q, value in self.quantiles.items()},
            "weighted": None if self.weighted is None else self.weighted._asdict(),
        }


def energy_statistics(
    energies: Floats, log_w: Floats | None = None, *, lineage: NDArray[np.int64] | None = None
) -> EnergyStatistics:
    """Energies of all samples and of the lower half, quantiles, and the weighted mean.

    Parameters
    ----------
    energies
        (n,) in any unit; not finite where atoms overlap.
    log_w, lineage
        Log weights (n,), and independent sources (n,) for the error.
    """
    values = np.sort(np.where(np.isfinite(energies), energies, np.inf).astype(np.float64))
    n = len(values)
    if n < 2:
        raise InputError(f"energies: {n} samples; give at least two")
    finite = int(np.isfinite(values).sum())
    half = values[: n // 2]
    return EnergyStatistics(
        n=n,
        finite=finite,
        **dict(zip(("mean", "deviation"), _moments(values), strict=True)),
        **dict(zip(("lower_half_mean", "lower_half_deviation"), _moments(half), strict=True)),
        quantiles={q: float(values[min(int(q * n), n - 1)]) for q in QUANTILES},
        weighted=None if log_w is None else expectation(energies, log_w, lineage=lineage),
    )


def _moments(values: Floats) -> tuple[float, float]:
    if not np.isfinite(values).all():
        return np.inf, np.inf
    return float(values.mean()), float(values.std())
