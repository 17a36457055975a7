"""Which generated structures resemble none of the training data, and whether that means anything.

A structure is called novel when it is further from the training data than 99 % of an independent test set is. What is
novel is then minimised, and its reweighted population stands beside the count: a cluster of the generator's mistakes is
novel too, and has no population.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.dynamics.minimise import minimise
from gibbsian.ensemble.atoms import select, shape_atoms
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.evaluate.rmsd import rmsd_matrix, rmsd_pairs
from gibbsian.potentials.base import Potential
from gibbsian.progress import Report, silent

Floats = NDArray[np.float64]

QUANTILE = 0.99
_QUERIES, _TRAINING = 64, 512
_BATCH = 256


def nearest(
    positions: NDArray[np.floating], training: NDArray[np.floating], *, report: Report = silent
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the nearest of the training structures by RMSD after superposition: distance (n,) nm and index (n,).

    Exact: every structure is compared with every one of the training data, in pieces that fit the cache.

    Parameters
    ----------
    positions, training
        (n, a, 3), (m, a, 3) nm, the same atoms (alpha carbons). Structures that are not finite are at infinity,
        index -1.
    """
    if positions.shape[1:] != training.shape[1:] or not len(training):
        raise InputError(
            f"nearest structure: {positions.shape} against {training.shape}; give the same atoms and training data"
        )
    finite = np.flatnonzero(np.isfinite(positions).all(axis=(1, 2)))
    x = torch.tensor(positions[finite], dtype=torch.float64)
    y = torch.tensor(training, dtype=torch.float64)
    distance, index = np.full(len(positions), np.inf), np.full(len(positions), -1, dtype=np.int64)
    for start in range(0, len(x), _QUERIES):
        part = x[start : start + _QUERIES]
        best, where = torch.full((len(part),), torch.inf, dtype=x.dtype), torch.zeros(len(part), dtype=torch.int64)
        for offset in range(0, len(y), _TRAINING):
            value, place = rmsd_matrix(part, y[offset : offset + _TRAINING]).min(1)
            nearer = value < best
            best, where = torch.where(nearer, value, best), torch.where(nearer, place + offset, where)
        rows = finite[start : start + _QUERIES]
        distance[rows], index[rows] = best.numpy(), where.numpy()
        report(min(start + _QUERIES, len(x)), len(x))
    return distance, index


def threshold(test: NDArray[np.floating], training: NDArray[np.floating], *, quantile: float = QUANTILE) -> float:
    """RMSD (nm) below which the given share of test structures (n, a, 3) find their nearest training structure."""
    return float(np.quantile(nearest(test, training)[0], quantile))


@dataclass(frozen=True, eq=False)
class Novelty:
    """Distances of generated structures from the training data.

    Attributes
    ----------
    distance, nearest
        (n,) RMSD of alpha carbons in nm to the nearest training structure, and its index.
    threshold
        nm; see `threshold`.
    novel
        (k,) samples beyond it, the furthest first.
    share
        Of the samples as they were generated.
    population
        Reweighted share of the samples beyond, with its standard error.
    """

    distance: Floats
    nearest: NDArray[np.int64]
    threshold: float
    novel: NDArray[np.int64]
    share: float
    population: Estimate


def novelty(q: Ensemble, training: Ensemble, test: Ensemble, *, report: Report = silent) -> Novelty:
    """Compare generated structures with training data, by alpha carbons (see `gibbsian.ensemble.atoms.shape_atoms`).

    Parameters
    ----------
    q, training, test
        Of the same molecule; the test set from runs that the training data are not from. Frames of weight zero in data
        are not looked at; indices are those of the whole ensemble.
    """
    if not q.topology.atom_names == training.topology.atom_names == test.topology.atom_names:
        raise InputError("novelty: the three ensembles have other atoms, or in another order; give the same molecule")
    atoms = shape_atoms(q.topology)
    known, held_out = (np.flatnonzero(e.weights > 0) for e in (training, test))
    reference = training.positions[np.ix_(known, atoms)]
    limit = threshold(test.positions[np.ix_(held_out, atoms)], reference)
    distance, index = nearest(q.positions[:, atoms], reference, report=report)
    index = np.where(index >= 0, known[np.maximum(index, 0)], -1)
    beyond = np.isfinite(distance) & (distance > limit)
    found = np.flatnonzero(beyond)
    found = found[np.argsort(distance[found])[::-1]]
    return Novelty(distance, index, limit, found, len(found) / len(q), q.expectation(beyond))


@dataclass(frozen=True, eq=False)
class Minimised:
    """What became of structures under minimisation.

    Attributes
    ----------
    index
        (k,) samples.
    drift, drift_heavy
        (k,) nm, RMSD of alpha carbons and of heavy atoms between the structure and its minimum.
    before, after
        (k,) potential energies, kJ/mol.
    positions
        (k, n_atoms, 3) nm, the minima.
    nearest
        (k,) nm, distance of the minimum from the nearest training structure.
    """

    index: NDArray[np.int64]
    drift: Floats
    drift_heavy: Floats
    before: Floats
    after: Floats
    positions: NDArray[np.float32]
    nearest: Floats


def novel_structures(
    q: Ensemble,
    found: Novelty,
    training: Ensemble,
    potential: Potential,
    *,
    most: int = 100,
    n_steps: int = 500,
    report: Report = silent,
) -> Minimised:
    """Minimise the structures furthest from the training data, and say how far they move.

    Parameters
    ----------
    most
        Structures looked at, the furthest first.
    n_steps
        Force evaluations of each, see `gibbsian.dynamics.minimise.minimise`.
    """
    index = found.novel[:most]
    shape, heavy = shape_atoms(q.topology), select(q.topology, "heavy")
    minima, before, after = [], [], []
    for start in range(0, len(index), _BATCH):
        x = torch.tensor(q.positions[index[start : start + _BATCH]], dtype=torch.float64)
        with torch.no_grad():
            before.append(potential.energy(x).double())
        y, energy = minimise(x, potential, n_steps)
        minima.append(y)
        after.append(energy.double())
        report(min(start + _BATCH, len(index)), len(index))
    first = torch.tensor(q.positions[index], dtype=torch.float64)
    last = torch.cat(minima) if minima else first
    reference = training.positions[np.ix_(np.flatnonzero(training.weights > 0), shape)]
    return Minimised(
        index=index,
        drift=_drift(first, last, shape),
        drift_heavy=_drift(first, last, heavy),
        before=_joined(before),
        after=_joined(after),
        positions=last.numpy().astype(np.float32),
        nearest=nearest(last[:, shape].numpy(), reference)[0],
    )


def _drift(x: Tensor, y: Tensor, atoms: NDArray[np.int64]) -> Floats:
    return rmsd_pairs(x[:, atoms], y[:, atoms]).numpy()


def _joined(parts: list[Tensor]) -> Floats:
    return torch.cat(parts).numpy() if parts else np.zeros(0)
