"""What people measure: torsions, radius of gyration, distances, per conformation and averaged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.residues import chi_atoms
from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import circular_mean, expectation
from gibbsian.ensemble.geometry import backbone, dihedral, residue_label
from gibbsian.errors import InputError

MASSES = {
    "H": 1.008,
    "C": 12.011,
    "N": 14.007,
    "O": 15.999,
    "F": 18.998,
    "P": 30.974,
    "S": 32.06,
    "SE": 78.971,
}
"""Standard atomic weights, g/mol."""


@dataclass(frozen=True, eq=False)
class Observable:
    """One number per conformation.

    Attributes
    ----------
    values
        (n,).
    unit
        ``rad`` (an angle, averaged on the circle) or ``nm``.
    """

    values: NDArray[np.float64]
    unit: str


def torsions(topology: Topology) -> dict[str, NDArray[np.int64]]:
    """Atoms (4,) of every phi, psi, omega and chi, by name: ``phi ALA2``, ``chi1 VAL3``."""
    atoms = backbone(topology)
    named: dict[str, NDArray[np.int64]] = {}
    for kind in ("phi", "psi", "omega"):
        for residue, row in zip(getattr(atoms, f"{kind}_residues").tolist(), getattr(atoms, kind), strict=True):
            named[f"{kind} {residue_label(topology, residue)}"] = row
    for residue in range(topology.n_residues):
        for k, row in enumerate(chi_atoms(topology, residue), start=1):
            named[f"chi{k} {residue_label(topology, residue)}"] = np.array(row, dtype=np.int64)
    return named


def radius_of_gyration(topology: Topology, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mass-weighted radius of gyration (n,) in nm."""
    unknown = {e for e in topology.elements if e.upper() not in MASSES}
    if unknown:
        raise InputError(f"radius of gyration: no atomic weight for element {sorted(unknown)[0]!r}; add it to MASSES")
    mass = np.array([MASSES[e.upper()] for e in topology.elements])
    mass /= mass.sum()
    x = positions.astype(np.float64)
    centre = np.einsum("a,nai->ni", mass, x)
    return np.sqrt(np.einsum("a,nai->n", mass, (x - centre[:, None]) ** 2))


def distance(positions: NDArray[np.floating], i: int, j: int) -> NDArray[np.float64]:
    """Distance (n,) in nm between atoms `i` and `j`."""
    return np.linalg.norm(positions[:, i].astype(np.float64) - positions[:, j], axis=-1)


def end_atoms(topology: Topology) -> tuple[int, int] | None:
    """First and last alpha carbon; with fewer than two, the outermost of N, C and CH3."""
    carbons = [i for i, name in enumerate(topology.atom_names) if name == "CA" and topology.elements[i] == "C"]
    if len(carbons) >= 2:
        return carbons[0], carbons[-1]
    heavy = [i for i, name in enumerate(topology.atom_names) if name in ("N", "C", "CH3")]
    return (heavy[0], heavy[-1]) if len(heavy) >= 2 else None


def observables(
    topology: Topology, positions: NDArray[np.floating], *, pairs: Sequence[tuple[int, int]] = ()
) -> dict[str, Observable]:
    """Every standard observable of every conformation.

    Parameters
    ----------
    topology, positions
        The molecule and (n, n_atoms, 3) nm.
    pairs
        Atom indices of further distances wanted.

    Returns
    -------
    dict
        Torsions, ``radius of gyration``, ``end-to-end distance`` and the distances asked for, in this order.
    """
    named = torsions(topology)
    found: dict[str, Observable] = {}
    if named:
        angles = dihedral(positions, np.stack(list(named.values())))
        found = {name: Observable(angles[:, k], "rad") for k, name in enumerate(named)}
    found["radius of gyration"] = Observable(radius_of_gyration(topology, positions), "nm")
    ends = end_atoms(topology)
    if ends is not None:
        found["end-to-end distance"] = Observable(distance(positions, *ends), "nm")
    for i, j in pairs:
        if not (0 <= i < topology.n_atoms and 0 <= j < topology.n_atoms):
            raise InputError(f"distance {i}-{j}: the molecule has atoms 0 to {topology.n_atoms - 1}; choose among them")
        name = f"distance {_atom(topology, i)}-{_atom(topology, j)}"
        found[name] = Observable(distance(positions, i, j), "nm")
    return found


def _atom(topology: Topology, i: int) -> str:
    return f"{residue_label(topology, int(topology.residue_index[i]))}:{topology.atom_names[i]}"


def averages(ensemble: Ensemble, found: Mapping[str, Observable]) -> list[dict[str, Any]]:
    """Average with errors, rows ``{"name", "value", "error", "unit"}``; circular means for angles."""
    rows = []
    for name, observable in found.items():
        estimator: Callable[..., Any] = circular_mean if observable.unit == "rad" else expectation
        value, error = estimator(observable.values, ensemble.log_w, lineage=ensemble.lineage)
        rows.append({"name": name, "value": value, "error": error, "unit": observable.unit})
    return rows
