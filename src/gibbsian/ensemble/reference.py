"""Certified references: what is known about the equilibrium of a system, in a small file.

A reference is made from several independent simulations (`gibbsian bench references`) and found by what identifies a
Boltzmann distribution: sequence, termini, force field, solvent, cutoff and temperature (`System.key`).
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.files import read_json, write_text

Floats = NDArray[np.float64]

RARE = 1e-3
"""Basins with less than this probability, or more than one less it, are reported but nothing is judged by them."""

_KEY = ("sequence", "termini", "forcefield", "solvent", "cutoff", "temperature")
_DIGITS, _HISTOGRAM_DIGITS = 6, 3


@dataclass(frozen=True)
class ReferenceBasin:
    """One basin.

    Attributes
    ----------
    name
        ``ALA2 left``.
    free_energy
        -ln(P / (1 - P)) in kT with its standard error; not finite where a seed never saw the basin.
    probability
        P with its standard error.
    """

    name: str
    free_energy: Estimate
    probability: Estimate

    @property
    def gated(self) -> bool:
        """Whether others may be judged by it: neither it nor its complement is rare."""
        rare = min(self.probability.value, 1 - self.probability.value) < RARE
        return not rare and math.isfinite(self.free_energy.value) and math.isfinite(self.free_energy.error)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Probabilities on a regular grid; what lies outside counts in the outermost bins.

    Attributes
    ----------
    edges
        (first, last, number of bins) of each axis.
    probabilities
        One axis for each of `edges`; they sum to one.
    unit
        Of the edges.
    """

    edges: tuple[tuple[float, float, int], ...]
    probabilities: Floats
    unit: str


def binned(values: Floats, weights: Floats, edges: Sequence[tuple[float, float, int]]) -> Floats:
    """Weights on the grid of a `Histogram`, of `values` (n, k); what lies outside counts in the outermost bins."""
    index = []
    for column, (first, last, n) in zip(values.T, edges, strict=True):
        place = np.floor((column - first) / (last - first) * n)
        index.append(np.clip(place, 0, n - 1).astype(np.int64))
    shape = tuple(n for _, _, n in edges)
    counts = np.bincount(np.ravel_multi_index(index, shape), weights, int(np.prod(shape)))
    return counts.reshape(shape).astype(np.float64)


@dataclass(frozen=True, eq=False)
class SlowModes:
    """TICA fitted on continuous single-temperature runs, and where the equilibrium lies in it.

    Attributes
    ----------
    mean, components
        (d,) and (d, k) projection of `gibbsian.evaluate.slow_modes.features`.
    eigenvalues
        (k,) autocorrelations at the lag.
    lag_ps
        ps.
    histogram
        Weighted ensemble in the plane of the first two components.
    """

    mean: Floats
    components: Floats
    eigenvalues: Floats
    lag_ps: float
    histogram: Histogram


@dataclass(frozen=True, eq=False)
class Reference:
    """A certified reference.

    Attributes
    ----------
    system
        Name under which it was made.
    key
        What identifies the distribution, see `System.key`.
    basins
        Free energies.
    ramachandran
        36 x 36 histogram of (phi, psi) in degrees for each residue that has both, by label.
    energy, radius_of_gyration
        Reduced potential energy in kT; nm.
    slow_modes
        None without continuous runs.
    seeds, commands
        Of the rows that it was made of.
    provenance
        Budgets, hardware, versions.
    """

    system: str
    key: Mapping[str, Any]
    basins: tuple[ReferenceBasin, ...]
    ramachandran: Mapping[str, Histogram]
    energy: Histogram
    radius_of_gyration: Histogram
    slow_modes: SlowModes | None
    seeds: tuple[int, ...]
    commands: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def basin(self, name: str) -> ReferenceBasin | None:
        """Return the basin of that name, or None."""
        return next((basin for basin in self.basins if basin.name == name), None)

    def save(self, folder: Path | None = None) -> Path:
        """Write the file, by default where `load_reference` looks, and return its path."""
        path = (folder or reference_folder()) / file_name(self.key)
        write_text(path, _text({**_plain(self), "key": dict(self.key)}) + "\n")
        return path


def reference_folder() -> Path:
    """Folder of the references that come with the package."""
    return Path(str(files("gibbsian.references")))


def file_name(key: Mapping[str, Any]) -> str:
    """Name of the file of a key; long sequences are cut and told apart by a hash."""
    cutoff = "nocutoff" if key["cutoff"] is None else f"{key['cutoff']:g}nm"
    sequence = str(key["sequence"])
    if len(sequence) > 60:
        sequence = f"{sequence[:40]}-{hashlib.sha256(sequence.encode()).hexdigest()[:12]}"
    parts = (sequence, key["termini"], key["forcefield"], key["solvent"], cutoff, f"{key['temperature']:g}K")
    return re.sub(r"[^\w.-]+", "-", "_".join(map(str, parts))) + ".json"


def load_reference(key: Mapping[str, Any], folder: Path | None = None) -> Reference | None:
    """Find the reference of a system.

    Parameters
    ----------
    key
        `System.key`.
    folder
        Where to look; by default the references that come with the package.

    Returns
    -------
    Reference, or None if there is none for this key.

    Raises
    ------
    InputError
        If its file is damaged.
    """
    path = (folder or reference_folder()) / file_name(key)
    if not path.exists():
        return None
    content = read_json(path)
    try:
        found = _reference(content)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a reference ({error!r}); make it anew with gibbsian bench references") from error
    return found if all(found.key.get(name) == key[name] for name in _KEY) else None


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates of one quantity, with the larger of two standard errors.

    One is the spread between them, s / sqrt(n), the other what their own errors e_i predict, sqrt(sum e_i^2) / n.
    Seeds that agree by chance do not make the error smaller than either, nor do optimistic errors within a seed.
    A value that is not finite gives (value not finite, inf).
    """
    values = np.array([estimate.value for estimate in estimates], dtype=np.float64)
    errors = np.array([estimate.error for estimate in estimates], dtype=np.float64)
    n = len(values)
    mean = float(np.sum(values)) / n
    if not np.isfinite(values).all() or not np.isfinite(errors).all():
        return Estimate(mean, math.inf)
    spread = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Estimate(mean, max(spread, float(np.sqrt(np.sum(errors**2))) / n))


def _reference(content: Mapping[str, Any]) -> Reference:
    slow = content["slow_modes"]
    return Reference(
        system=content["system"],
        key=content["key"],
        basins=tuple(
            ReferenceBasin(row["name"], _estimate(row["free_energy"]), _estimate(row["probability"]))
            for row in content["basins"]
        ),
        ramachandran={label: _histogram(h) for label, h in content["ramachandran"].items()},
        energy=_histogram(content["energy"]),
        radius_of_gyration=_histogram(content["radius_of_gyration"]),
        slow_modes=None
        if slow is None
        else SlowModes(
            np.array(slow["mean"], dtype=np.float64),
            np.array(slow["components"], dtype=np.float64),
            np.array(slow["eigenvalues"], dtype=np.float64),
            slow["lag_ps"],
            _histogram(slow["histogram"]),
        ),
        seeds=tuple(content["seeds"]),
        commands=tuple(content["commands"]),
        provenance=content["provenance"],
    )


def _estimate(row: Mapping[str, Any]) -> Estimate:
    value, error = row["value"], row["error"]
    return Estimate(math.nan if value is None else value, math.inf if error is None else error)


def _histogram(content: Mapping[str, Any]) -> Histogram:
    edges = tuple((float(a), float(b), int(n)) for a, b, n in content["edges"])
    return Histogram(edges, np.array(content["probabilities"], dtype=np.float64), content["unit"])


def _plain(item: Any, digits: int = _DIGITS) -> Any:
    """Turn dataclasses and arrays into what JSON knows; numbers keep a few digits, None stands for not finite."""
    if isinstance(item, Estimate):
        return {"value": _plain(item.value), "error": _plain(item.error)}
    if isinstance(item, ReferenceBasin):
        estimates = {"free_energy": _plain(item.free_energy), "probability": _plain(item.probability)}
        return {"name": item.name, **estimates, "gated": item.gated}
    if isinstance(item, Histogram):
        probabilities = _plain(item.probabilities, _HISTOGRAM_DIGITS)
        return {"unit": item.unit, "edges": _plain(item.edges), "probabilities": probabilities}
    if isinstance(item, Reference | SlowModes):
        return {name: _plain(value) for name, value in vars(item).items()}
    if isinstance(item, Mapping):
        return {name: _plain(value) for name, value in item.items()}
    if isinstance(item, np.ndarray):
        return _plain(item.tolist(), digits)
    if isinstance(item, list | tuple):
        return [_plain(value, digits) for value in item]
    return _rounded(item, digits) if isinstance(item, float) else item


def _rounded(number: float, digits: int) -> float | int | None:
    """Return the number with so many digits, whole ones without a point; None for what is not finite."""
    if not math.isfinite(number):
        return None
    short = float(f"{number:.{digits}g}")
    return int(short) if short == int(short) else short


def _text(content: Mapping[str, Any]) -> str:
    """JSON with one line for each entry of the outer level: small, and still good to read in a comparison."""
    dense = (",", ":")
    lines = [f'"{name}": {json.dumps(value, allow_nan=False, separators=dense)}' for name, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
