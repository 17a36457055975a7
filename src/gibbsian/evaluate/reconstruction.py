"""What a reduced description loses: conformations rebuilt with their frozen coordinates at one value."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.align import rmsd
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.coords.variables import FrozenKind
from gibbsian.dynamics.minimise import minimise
from gibbsian.ensemble.atoms import Selection, select
from gibbsian.errors import InputError
from gibbsian.evaluate.clashes import clashes, far_pairs
from gibbsian.potentials.base import Potential
from gibbsian.units import kt

CLASSES: dict[str, tuple[FrozenKind, ...]] = {
    "bonds": ("bond",),
    "angles": ("angle",),
    "deltas": ("delta",),
    "rings": ("ring",),
    "rotors": ("rotor",),
}
"""Classes of frozen coordinates that are also frozen one at a time."""

WIDE = 3.0
"""Spread of the change of u, kT, above which the reduced ensemble says little about the full one."""

MINIMISER_STEPS = 50

_CHUNK = 256
_SELECTIONS: tuple[Selection, ...] = ("ca", "backbone", "heavy")


@dataclass(frozen=True)
class Difference:
    """Rebuilt against given conformations.

    Attributes
    ----------
    rmsd
        ``ca``, ``backbone`` and ``heavy`` atoms after superposition: median and 95 % quantile, nm.
    shift, spread
        Median and standard deviation of u(rebuilt) - u(given), kT; infinite where an energy is.
    correlation
        Pearson's r of the two energies; NaN where one is not finite or does not vary.
    clashes
        Fractions of given and of rebuilt conformations with a clash.
    """

    rmsd: dict[str, tuple[float, float]]
    shift: float
    spread: float
    correlation: float
    clashes: tuple[float, float]


@dataclass(frozen=True)
class Reconstruction:
    """Error of reduced coordinates.

    Attributes
    ----------
    n
        Conformations.
    rebuilt
        All frozen coordinates at their mean.
    minimised
        The same after 50 minimiser steps of both sides.
    alone
        With one class of coordinates frozen and the rest as it was, by `CLASSES`; those the molecule lacks left out.
    energies
        Of ``given`` and ``rebuilt`` conformations, kT.
    """

    n: int
    rebuilt: Difference
    minimised: Difference
    alone: dict[str, Difference]
    energies: dict[str, list[float]]

    @property
    def source(self) -> str:
        """Class of coordinates that spreads energies most when frozen alone."""
        return max(self.alone, key=lambda name: self.alone[name].spread)

    @property
    def sentence(self) -> str | None:
        """What a reader must know, where energies spread by more than 3 kT; else None."""
        if self.rebuilt.spread <= WIDE:
            return None
        return (
            f"Freezing bonds, side-chain angles and rings changes the energy by {self.rebuilt.spread:.1f} kT "
            f"(one standard deviation), most of all by its {self.source}: the reduced ensemble says "
            "little about the full one."
        )

    def as_record(self) -> dict[str, Any]:
        """Return the figures as they belong in results.json, what they say in words among them."""
        return asdict(self) | {"source": self.source, "sentence": self.sentence}


def reconstruction(
    coordinates: ReducedCoordinates,
    x: Tensor,
    c0: Tensor,
    potential: Potential,
    temperature: float,
) -> Reconstruction:
    """Rebuild conformations from their free coordinates and compare (section C of arXiv 2401.04246).

    Parameters
    ----------
    coordinates
        Which coordinates are frozen.
    x
        (n, n_atoms, 3) nm, not those that `c0` was taken from.
    c0
        (m,) from training data, `ReducedCoordinates.mean_frozen`.
    potential, temperature
        Energies, about 110 n calls, and K.

    Raises
    ------
    InputError
        If there are fewer than two conformations.
    """
    if len(x) < 2:
        raise InputError(f"reconstruction: {len(x)} conformations; give at least 2")
    x, topology = x.double(), coordinates.topology
    measure = _Measure(topology, potential, temperature)
    given = measure.of(x)
    rebuilt = rebuild(coordinates, x, c0)
    made = measure.of(rebuilt)
    whole = measure.compare(given, made)
    relaxed = [minimise(side, potential, MINIMISER_STEPS)[0] for side in (x, rebuilt)]
    minimised = measure.compare(*(measure.of(side) for side in relaxed))
    alone = {}
    for name, kinds in CLASSES.items():
        mask = coordinates.frozen.of(*kinds)
        if mask.any():
            alone[name] = measure.compare(given, measure.of(rebuild(coordinates, x, c0, mask)))
    energies = {"given": given.u.tolist(), "rebuilt": made.u.tolist()}
    return Reconstruction(len(x), whole, minimised, alone, energies)


def rebuild(coordinates: ReducedCoordinates, x: Tensor, c0: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """Return conformations (n, n_atoms, 3) with their frozen coordinates at `c0` (m,), or only those of a mask (m,)."""
    which = torch.ones(coordinates.frozen.n, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    parts = []
    for part in x.split(_CHUNK):
        free, frozen = coordinates.from_x(part)
        parts.append(coordinates.to_x(free, torch.where(which, c0.double(), frozen)))
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class _Side:
    x: Tensor
    u: Tensor
    clash: Tensor


class _Measure:
    """Energies, clashes and distances of one molecule."""

    def __init__(self, topology: Topology, potential: Potential, temperature: float) -> None:
        self.potential, self.kt = potential, kt(temperature)
        self.pairs = torch.from_numpy(far_pairs(topology))
        self.atoms = {name: torch.from_numpy(select(topology, name)) for name in _SELECTIONS}

    def of(self, x: Tensor) -> _Side:
        u, clash = [], []
        for part in x.split(_CHUNK):
            u.append(self.potential.energy(part).detach().double() / self.kt)
            clash.append(clashes(part, self.pairs) > 0)
        return _Side(x, torch.cat(u), torch.cat(clash))

    def compare(self, given: _Side, made: _Side) -> Difference:
        found = {}
        for name, atoms in self.atoms.items():
            if len(atoms) < 3:  # nothing is left after superposition
                continue
            values = torch.cat(
                [
                    rmsd(a[:, atoms], b[:, atoms] - b[:, atoms].mean(1, keepdim=True))
                    for a, b in zip(made.x.split(_CHUNK), given.x.split(_CHUNK), strict=True)
                ]
            )
            found[name] = (float(values.quantile(0.5)), float(values.quantile(0.95)))
        change = made.u - given.u
        finite = bool(torch.isfinite(change).all())
        return Difference(
            rmsd=found,
            shift=float(torch.nan_to_num(change, nan=math.inf, posinf=math.inf).median()),
            spread=float(change.std()) if finite else math.inf,
            correlation=float(torch.corrcoef(torch.stack([given.u, made.u]))[0, 1]) if finite else math.nan,
            clashes=(float(given.clash.double().mean()), float(made.clash.double().mean())),
        )
