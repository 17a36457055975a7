"""The Ensemble: weighted conformations and what can be said about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble import estimators, weights
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Immutable weighted conformations of one molecule at one temperature.

    Attributes
    ----------
    positions
        (n, n_atoms, 3) nm, float32.
    log_w
        (n,) unnormalised log weights towards the target at `temperature`, float64; -inf where the weight is
        zero. For importance samples their mean exponential is Z; for simulation data only ratios mean anything.
    topology, temperature
        Atoms and bonds; K.
    u
        (n,) reduced potential energy U(x)/kT at `temperature`, float64, or None where unknown.
    log_q
        (n,) log density of the generator that made each sample, or None for simulation data.
    lineage
        (n,) index of the independent source of each sample (replica-exchange ladder, particle ancestor):
        error bars treat samples of one lineage as one block. None where all samples are independent.
    provenance
        How it was made: method, seeds, versions, energy calls.
    draws
        Some of the generator's draws as they were before anything moved them, with their importance weights: what
        annealing began with. None where the samples are the draws, or none were kept.
    """

    positions: NDArray[np.float32]
    log_w: NDArray[np.float64]
    topology: Topology
    temperature: float
    u: NDArray[np.float64] | None = None
    log_q: NDArray[np.float64] | None = None
    lineage: NDArray[np.int64] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    draws: "Ensemble | None" = None

    def __len__(self) -> int:
        return len(self.positions)

    def __post_init__(self) -> None:
        n = len(self.positions)
        if self.positions.shape != (n, self.topology.n_atoms, 3):
            raise InputError(f"ensemble positions: {self.positions.shape}; give (n, {self.topology.n_atoms}, 3) in nm")
        for name in ("log_w", "u", "log_q", "lineage"):
            array = getattr(self, name)
            if array is not None and array.shape != (n,):
                raise InputError(
                    f"ensemble {name}: shape {array.shape} for {n} conformations; give one number for each"
                )

    def take(self, index: ArrayLike | slice) -> Self:
        """Return the conformations at `index` (integers, a mask or a slice) with their weights."""
        pick = index if isinstance(index, slice) else np.asarray(index)
        parts = {name: getattr(self, name) for name in ("positions", "log_w", "u", "log_q", "lineage")}
        return replace(self, **{name: None if a is None else a[pick] for name, a in parts.items()})

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Normalised weights (n,)."""
        return weights.normalised(self.log_w)

    @cached_property
    def ess(self) -> float:
        """Effective number of samples by their weights, unclipped; their correlation is not in it."""
        return weights.ess(self.log_w)

    @property
    def ess_fraction(self) -> float:
        """Effective sample size over the number of samples."""
        return self.ess / len(self)

    @cached_property
    def k_hat(self) -> float:
        """PSIS shape of the weights' tail, see `gibbsian.ensemble.weights.k_hat`."""
        return weights.k_hat(self.log_w)

    @cached_property
    def log_z(self) -> Estimate:
        """Log partition function and its error; only for samples of a generator with a density.

        With ``provenance["ancestors"]``, the number of draws that resampled particles descend from, the error is
        that of these.

        Raises
        ------
        InputError
            For simulation data, whose weights are known up to a factor.
        """
        if self.log_q is None:
            raise InputError("log_z: these samples have no log_q, so Z is not known from them; use importance samples")
        if self.lineage is not None and "ancestors" in self.provenance:
            return weights.log_z_ancestors(self.log_w, self.lineage, int(self.provenance["ancestors"]))
        if self.lineage is not None:
            return weights.log_z_bootstrap(self.log_w, lineage=self.lineage)
        return weights.log_z(self.log_w)

    def expectation(self, f: Callable[[NDArray[np.float32]], ArrayLike] | ArrayLike) -> Estimate:
        """Average of one number per conformation, with its error.

        Parameters
        ----------
        f
            Function of the positions (n, n_atoms, 3) that returns (n,), or that array itself.
        """
        values = f(self.positions) if callable(f) else f
        return estimators.expectation(values, self.log_w, lineage=self.lineage)

    def free_energy(self, mask: ArrayLike) -> Estimate:
        """Free energy -ln(P / (1 - P)) in kT of the conformations marked by `mask` (n,), with its error."""
        return estimators.free_energy(mask, self.log_w, lineage=self.lineage)

    def save(self, folder: Path | str) -> None:
        """Write to a folder, see `gibbsian.ensemble.store.save`."""
        from gibbsian.ensemble.store import save

        save(self, folder)

    @staticmethod
    def load(folder: Path | str) -> "Ensemble":
        """Read from a folder, see `gibbsian.ensemble.store.load`."""
        from gibbsian.ensemble.store import load

        return load(folder)
