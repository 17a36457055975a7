"""What a run with a protein says of samples that resemble none of its training data."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.coords.align import superpose
from gibbsian.ensemble.atoms import shape_atoms
from gibbsian.ensemble.draws import sound, thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.novelty import Minimised, Novelty, novel_structures, novelty
from gibbsian.potentials.base import Potential
from gibbsian.progress import Report, silent

SAMPLES, KNOWN, FURTHEST = 1_000, 10_000, 10
"""Samples that are looked at, training frames they are compared with, and structures that are minimised."""

Pairs = NDArray[np.float32]
"""(2 k, n_atoms, 3) nm: each minimum, and the training frame nearest to what it was, superposed on it."""


def novel(
    ensemble: Ensemble, training: Ensemble, held_out: Ensemble, potential: Potential, report: Report = silent
) -> tuple[dict[str, Any], Pairs]:
    """Look for samples of a protein further from the training data than held-out frames are.

    Returns
    -------
    dict
        ``n`` samples looked at, ``threshold`` (nm), ``share`` of them beyond as generated, ``population`` (``value``,
        ``error``) reweighted, and ``structures``, the furthest first: ``distance`` of the sample and ``nearest`` of its
        minimum to the training data, ``drift`` on the way (nm, alpha carbons), energies ``before`` and ``after``
        (kJ/mol).
    array
        See `Pairs`.
    """
    samples = sound(ensemble)
    samples = samples.take(np.linspace(0, len(samples) - 1, min(SAMPLES, len(samples))).astype(np.int64))
    known, test = thinned(training, KNOWN), thinned(held_out, SAMPLES)
    found = novelty(samples, known, test, report=report)
    minima = novel_structures(samples, found, known, potential, most=FURTHEST)
    record = {
        "n": len(samples),
        "threshold": found.threshold,
        "share": found.share,
        "population": found.population._asdict(),
        "structures": _structures(found, minima),
    }
    return record, _pairs(ensemble.topology, minima.positions, known.positions[found.nearest[minima.index]])


def _structures(found: Novelty, minima: Minimised) -> list[dict[str, float]]:
    columns = {
        "distance": found.distance[minima.index],
        "nearest": minima.nearest,
        "drift": minima.drift,
        "before": minima.before,
        "after": minima.after,
    }
    return [{name: float(column[k]) for name, column in columns.items()} for k in range(len(minima.index))]


def _pairs(topology: Topology, minima: NDArray[np.float32], frames: NDArray[np.float32]) -> Pairs:
    weights = torch.zeros(topology.n_atoms, dtype=torch.float64)
    weights[shape_atoms(topology)] = 1.0
    placed, _ = superpose(torch.from_numpy(frames).double(), torch.from_numpy(minima).double(), weights)
    return np.stack([minima, placed.numpy().astype(np.float32)], axis=1).reshape(-1, topology.n_atoms, 3)
