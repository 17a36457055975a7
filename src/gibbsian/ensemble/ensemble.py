"""The Ensemble: weighted conformations and what can be said about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Immutable weighted conformations of one molecule at one temperature.

    Attributes
    ----------
    positions
        (n, n_atoms, 3) nm, float32.
    log_w
        (n,) unnormalised log weights towards the target at `temperature`, float64; -inf where the weight is zero.
        For importance samples their mean exponential is Z; for simulation data only ratios mean anything.
    topology, temperature
        Atoms and bonds; K.
    u
        (n,) reduced potential energy U(x)/kT at `temperature`, float64, or None where unknown.
    log_q
        (n,) log density of the generator that made each sample, or None for simulation data.
    lineage
        (n,) index of the independent source of each sample (replica-exchange ladder, particle ancestor): error bars
        treat samples of one lineage as one block. None where all samples are independent.
    provenance
        How it was made: method, seeds, versions, energy calls.
    """

    positions: NDArray[np.float32]
    log_w: NDArray[np.float64]
    topology: Topology
    temperature: float
    u: NDArray[np.float64] | None = None
    log_q: NDArray[np.float64] | None = None
    lineage: NDArray[np.int64] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)
