"""An ensemble against a certified reference, of which only marginals are kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import backbone, ramachandran, residue_label
from gibbsian.ensemble.reference import Reference, binned, file_name
from gibbsian.evaluate.metrics import Distance

DRAWS = 20
"""Histograms drawn for a floor."""


def for_molecule(certified: Reference | None, topology: Topology) -> Reference | None:
    """Return the reference if it knows the residues of a molecule by the names that they have there, else None.

    A PDB file may number the residues of the same sequence in another way; nothing could be looked up then.
    """
    names = {f"{residue_label(topology, int(residue))} " for residue in backbone(topology).phi_residues}
    known = () if certified is None else certified.basins
    return certified if known and all(basin.name.startswith(tuple(names)) for basin in known) else None


def source(certified: Reference) -> dict[str, Any]:
    """Return what results.json says about where its reference column is from."""
    return {
        "source": "certified",
        "file": file_name(certified.key),
        "seeds": list(certified.seeds),
        "aggregate_ns": aggregate_ns(certified),
    }


def aggregate_ns(certified: Reference) -> float | None:
    """Return the replica-exchange dynamics of all seeds in ns, equilibration left out; None where it is not told."""
    budget = certified.provenance.get("budget", {})
    try:
        walkers = budget["ladders"] * len(budget["temperatures"])
        return len(certified.seeds) * walkers * budget["steps"] * budget["timestep"] / 1000
    except (KeyError, TypeError):
        return None


def ramachandran_distance(ensemble: Ensemble, certified: Reference, *, seed: int = 0) -> Distance | None:
    """Total variation between Ramachandran histograms, mean over residues; None without a residue that both have.

    All samples enter with their weights. The floor is the mean of the same distance for as many independent draws
    from the reference's own histogram as the ensemble has effective samples: what a perfect sampler would show. The
    reference's noise, which is much smaller, and a correlation of the samples are not in it.
    """
    residues, angles = ramachandran(ensemble.topology, ensemble.positions)
    n, used = max(1, round(ensemble.ess)), ensemble.weights > 0
    rng = np.random.default_rng(seed)
    values, floors, bins = [], [], 0
    for k, residue in enumerate(residues.tolist()):
        theirs = certified.ramachandran.get(residue_label(ensemble.topology, residue))
        if theirs is None:
            continue
        p = theirs.probabilities / theirs.probabilities.sum()
        bins = len(p)
        values.append(_variation(binned(np.degrees(angles[used, k]), ensemble.weights[used], theirs.edges), p))
        draws = rng.multinomial(n, p.ravel(), size=DRAWS) / n
        floors.append(_variation(draws.reshape(-1, *p.shape), p).mean())
    if not values:
        return None
    name = f"certified_ram_tv_{bins}x{bins}"
    return Distance(name, n, float(np.mean(values)), float(np.mean(floors)))


def _variation(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * np.abs(p - q).sum(axis=(-2, -1))
