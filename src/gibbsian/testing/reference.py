"""A certified reference of any molecule with a backbone, from numbers alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import ramachandran, residue_label
from gibbsian.ensemble.reference import Histogram, Reference, ReferenceBasin
from gibbsian.ensemble.weights import Estimate

BINS = 36
SEEDS = (0, 1, 2)
BUDGET = {"ladders": 4, "temperatures": [300.0, 500.0], "steps": 1000, "timestep": 0.002}


def toy_reference(
    ensemble: Ensemble, probabilities: Mapping[str, float], *, error: float = 0.05, key: Mapping[str, Any] | None = None
) -> Reference:
    """Return a reference with the given basins, and with the Ramachandran histograms of an ensemble.

    Parameters
    ----------
    ensemble
        Gives residues and histograms.
    probabilities
        Of basins by name, strictly between 0 and 1.
    error
        Of every basin free energy, kT.
    key
        What the reference is found by.
    """
    residues, angles = ramachandran(ensemble.topology, ensemble.positions)
    edges = ((-180.0, 180.0, BINS), (-180.0, 180.0, BINS))
    planes = {}
    for k, residue in enumerate(residues.tolist()):
        phi, psi = np.degrees(angles[:, k]).T
        limits = [(first, last) for first, last, _ in edges]
        counts = np.histogram2d(phi, psi, bins=BINS, range=limits, weights=ensemble.weights)[0]
        planes[residue_label(ensemble.topology, residue)] = Histogram(edges, counts / counts.sum(), "deg")
    line = Histogram(((0.0, 1.0, 2),), np.array([0.5, 0.5]), "")
    return Reference(
        system="toy",
        key=dict(key or {"sequence": "toy", "termini": "capped", "forcefield": "none", "solvent": "none",
                         "cutoff": None, "temperature": ensemble.temperature}),
        basins=tuple(
            ReferenceBasin(name, Estimate(float(-np.log(p / (1 - p))), error), Estimate(p, error * p * (1 - p)))
            for name, p in probabilities.items()
        ),
        ramachandran=planes,
        energy=line,
        radius_of_gyration=line,
        slow_modes=None,
        seeds=SEEDS,
        commands=(),
        provenance={"budget": BUDGET},
    )  # fmt: skip
