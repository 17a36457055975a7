"""Where Gaussian completions come from: the constants of a force field, or weighted simulation data."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.parameters import Parameters, Terms
from gibbsian.coords.internal import wrap
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.models.completion import GaussianCompletion, count_regressors, regressors
from gibbsian.models.standardise import DELTA_HALF_WIDTH, HARMONICS
from gibbsian.units import kt

MOST_FRAMES = 20_000
FULL_COVARIANCE = 10
"""Effective conformations per frozen coordinate above which the covariance of all with all is kept."""

_CHUNK = 2048
_FLAT = 1e3
_DEFAULT_WIDTH = {"bond": 0.003, "angle": 0.07, "delta": 0.1, "ring": 0.1, "rotor": _FLAT}
_DEFAULT_ANGLE = 1.91
_JITTER = 1e-6

Planar = tuple[tuple[int, ...], float]
"""Four atoms and the curvature of the term that keeps them in a plane."""


def harmonic(
    coordinates: ReducedCoordinates, parameters: Parameters, c0: Tensor, temperature: float
) -> GaussianCompletion:
    """Independent Gaussians of variance kT/k from a force field's k/2 (c - c_eq)^2.

    Bonds and angles have their own terms. The k of a delta is what the angle term between the siblings and the planar
    torsion terms of its atoms add up to; its centre is that of `c0` (m,). What has no term gets a usual width
    (0.003 nm, 0.07 rad, deltas and rings 0.1 rad); frozen rotors are uniform. It knows nothing of ring closure.
    """
    frozen, thermal = coordinates.frozen, kt(temperature)
    bonds, angles = _by_atoms(parameters.bonds), _by_atoms(parameters.angles)
    centre, width = c0.double().clone(), np.array([_DEFAULT_WIDTH[kind] for kind in frozen.kinds])
    planar = _planar(parameters.torsions)
    for k, (kind, atoms) in enumerate(zip(frozen.kinds, frozen.atoms.tolist(), strict=True)):
        if kind in ("bond", "angle"):
            found = (bonds if kind == "bond" else angles).get(_key(atoms[: 2 if kind == "bond" else 3]))
            if found is not None and found[1] > 0.0:
                centre[k], width[k] = found[0], math.sqrt(thermal / found[1])
        elif kind == "delta":
            stiffness = _delta_stiffness(atoms, float(c0[k]), angles, planar)
            width[k] = min(math.sqrt(thermal / stiffness), 3 * width[k]) if stiffness > 0.0 else width[k]
    return independent(coordinates, centre, torch.from_numpy(width))


def independent(coordinates: ReducedCoordinates, centre: Tensor, width: Tensor) -> GaussianCompletion:
    """Independent Gaussians of given centres and standard deviations, (m,) each, rad and nm."""
    regression = torch.zeros(coordinates.frozen.n, count_regressors(coordinates))
    return GaussianCompletion(coordinates, centre, regression, torch.diag(width.double()))


def linear_gaussian(
    coordinates: ReducedCoordinates, x: Tensor, log_w: Tensor | None = None, neighbours: int = 1
) -> GaussianCompletion:
    """Fit a Gaussian whose mean is linear in cos, sin and angles of the free coordinates, on weighted conformations.

    The mean of a coordinate depends on free coordinates of residues at most `neighbours` away. With more than ten
    effective conformations per frozen coordinate the residual covariance is full; else a residue's residuals depend on
    those of the residue before, and correlations are shrunk (Schaefer and Strimmer 2005). Frozen rotors are uniform.

    Parameters
    ----------
    x, log_w
        (n, n_atoms, 3) nm and (n,); thinned to 20,000.

    Raises
    ------
    InputError
        If there are fewer effective conformations than twice the coefficients of a mean.
    """
    stride = -(-len(x) // MOST_FRAMES)
    x = x[::stride]
    log_w = torch.zeros(len(x)) if log_w is None else log_w[::stride]
    frozen = coordinates.frozen
    centre = coordinates.mean_frozen(x, log_w)
    parts = [coordinates.from_x(part.double()) for part in x.split(_CHUNK)]
    y, c = (torch.cat(column) for column in zip(*parts, strict=True))
    torsion, delta, rotor = (
        torch.from_numpy(mask) for mask in (frozen.torsion, frozen.of("delta"), frozen.of("rotor"))
    )
    deviation = torch.where(torsion, wrap(c - centre), c - centre)
    deviation[:, rotor] = 0.0
    inside = (deviation[:, delta].abs() < DELTA_HALF_WIDTH).all(-1)
    weights = torch.softmax(torch.where(inside, log_w.double(), -torch.inf), 0)
    effective = 1.0 / float(weights.square().sum())
    regression, residual = _regress(coordinates, regressors(coordinates, y), deviation, weights, effective, neighbours)
    covariance = residual.T @ (weights[:, None] * residual)
    covariance[rotor, rotor] = _FLAT**2
    full = effective > FULL_COVARIANCE * frozen.n
    residues = torch.from_numpy(frozen.residues)
    near = torch.ones_like(covariance, dtype=torch.bool) if full else (residues[:, None] - residues).abs() <= 1
    covariance = _shrunk(covariance, near, effective)
    cholesky = torch.linalg.cholesky(covariance) if full else _banded_cholesky(covariance, residues)
    return GaussianCompletion(coordinates, centre, regression.contiguous(), cholesky.contiguous())


def _regress(
    coordinates: ReducedCoordinates,
    design: Tensor,
    deviation: Tensor,
    weights: Tensor,
    effective: float,
    neighbours: int,
) -> tuple[Tensor, Tensor]:
    """Coefficients (m, 1 + f), zero where residues are far apart, and residuals with the spread of fresh data."""
    variables, frozen = coordinates.variables, coordinates.frozen
    circle, line = variables.residues[variables.periodic], variables.residues[~variables.periodic]
    owner = np.concatenate([np.tile(circle, 2 * HARMONICS), line])
    weighted = weights[:, None] * design
    gram, moments = design.T @ weighted, weighted.T @ deviation
    coefficients = torch.zeros(frozen.n, design.shape[1], dtype=torch.float64)
    inflation = torch.ones(frozen.n, dtype=torch.float64)
    for residue in np.unique(frozen.residues):
        columns = torch.from_numpy(np.flatnonzero(np.r_[True, np.abs(owner - residue) <= neighbours]))
        rows = torch.from_numpy(np.flatnonzero(frozen.residues == residue))
        if effective < 2 * len(columns):
            raise InputError(
                f"linear_gaussian completion: {effective:.0f} effective conformations for {len(columns)} "
                f"coefficients of a mean; give at least {2 * len(columns)}"
            )
        ridge = torch.eye(len(columns), dtype=gram.dtype) / effective
        solution = torch.linalg.solve(gram[columns][:, columns] + ridge, moments[columns][:, rows])
        coefficients[rows[:, None], columns] = solution.T
        inflation[rows] = 1.0 / math.sqrt(1.0 - len(columns) / effective)
    return coefficients, (deviation - design @ coefficients.T) * inflation


def _shrunk(covariance: Tensor, near: Tensor, effective: float) -> Tensor:
    """Covariance with correlations scaled by how much of them is noise, and a little added to its diagonal."""
    scale = covariance.diagonal().sqrt()
    correlation = covariance / (scale[:, None] * scale)
    counted = near & ~torch.eye(len(scale), dtype=torch.bool)
    signal = correlation[counted].square()
    noise = (1.0 - signal).square().sum() / effective
    share = 1.0 - float((noise / signal.sum().clamp_min(1e-300)).clamp(0.0, 1.0)) if len(signal) else 1.0
    shrunk = torch.where(counted, share * covariance, 0.0)
    return shrunk + torch.diag((1.0 + _JITTER) * covariance.diagonal())


def _banded_cholesky(covariance: Tensor, residues: Tensor) -> Tensor:
    """Factor of the Gaussian in which a residue depends on the one before it only (covariances of those kept)."""
    n = len(residues)
    transfer, scale = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    before: Tensor | None = None
    for residue in torch.unique(residues):
        rows = torch.nonzero(residues == residue)[:, 0]
        block = covariance[rows][:, rows]
        if before is not None:
            cross = covariance[before][:, rows]
            gain = torch.linalg.solve(covariance[before][:, before], cross)
            transfer[rows[:, None], before] = -gain.T
            block = block - gain.T @ cross
        scale[rows[:, None], rows] = torch.linalg.cholesky(block)
        before = rows
    return torch.linalg.solve_triangular(transfer, scale, upper=False, unitriangular=True)


def _key(atoms: list[int]) -> tuple[int, ...]:
    return tuple(atoms) if atoms[0] < atoms[-1] else tuple(reversed(atoms))


def _by_atoms(terms: Terms) -> dict[tuple[int, ...], tuple[float, float]]:
    """Equilibrium value and k of each bond or angle."""
    pairs = zip(terms.atoms.tolist(), terms.values.tolist(), strict=True)
    return {_key(atoms): (values[0], values[1]) for atoms, values in pairs}


def _delta_stiffness(
    atoms: list[int], delta: float, angles: dict[tuple[int, ...], tuple[float, float]], planar: list[Planar]
) -> float:
    """Curvature (kJ/mol/rad^2) at `delta` of the energy of placing i on a, along the bond from b, relative to c."""
    i, a, b, c = atoms
    total, found = 0.0, angles.get(_key([i, a, c]))
    if found is not None:
        wide, other = (angles.get(_key([k, a, b]), (_DEFAULT_ANGLE, 0.0))[0] for k in (i, c))
        product = math.sin(wide) * math.sin(other)
        cosine = math.cos(wide) * math.cos(other) + product * math.cos(delta)
        total += found[1] * (product * math.sin(delta)) ** 2 / max(1.0 - cosine**2, 1e-6)
    for four, curvature in planar:
        proper = four[1:3] in ((a, b), (b, a)) and i in (four[0], four[3])
        improper = {i, a, b, c} == set(four)
        total += curvature if proper or improper else 0.0
    return total


def _planar(torsions: Terms) -> list[Planar]:
    """Torsion terms that keep atoms in a plane, k (1 + cos(2 phi - pi)), and their curvature."""
    values: NDArray[np.float64] = torsions.values
    flat = (values[:, 0] == 2) & (np.abs(np.abs(values[:, 1]) - math.pi) < 1e-3) & (values[:, 2] > 0.0)
    return [(tuple(atoms), 4.0 * k) for atoms, k in zip(torsions.atoms[flat].tolist(), values[flat, 2], strict=True)]
