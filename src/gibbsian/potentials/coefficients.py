"""Parameters arranged for the kernels: unordered pairs, merged torsions, spline patches."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from gibbsian.chem.born import COULOMB
from gibbsian.chem.nonbonded import Nonbonded
from gibbsian.chem.parameters import Cmap, Parameters

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def shortest(dtype: torch.dtype) -> float:
    """Distance (nm) below which pairs are treated as that far apart, so that 1/r^14 cannot overflow."""
    return 1e-3 if dtype == torch.float32 else 1e-6


@dataclass(frozen=True, eq=False)
class PairTable:
    """Coefficients of pairs, (n_pairs,) each.

    The energy of a pair is ``charge (1/r + field r^2 - shift) + a/r^12 - b/r^6`` within its cutoff; field and
    shift are zero for exceptions, whose cutoff is infinite.
    """

    i: Integers
    j: Integers
    charge: Floats
    a: Floats
    b: Floats
    cutoff: Floats
    field: Floats
    shift: Floats

    def rows(self, cut: slice) -> "PairTable":
        """Select some of the pairs."""
        return PairTable(*(getattr(self, item.name)[cut] for item in fields(self)))


def pair_table(
    nonbonded: Nonbonded | None, i: Integers, j: Integers, repeated: NDArray[np.bool_] | None = None
) -> PairTable:
    """Combine per-atom parameters, overwrite excluded and special pairs, add those by type; zeros without a force.

    `repeated` marks pairs that the list holds a second time, and which must not count.
    """
    if nonbonded is None:
        zero = np.zeros(len(i))
        return PairTable(i, j, zero, zero, zero, zero + np.inf, zero, zero)
    charge = nonbonded.charges[i] * nonbonded.charges[j]
    sigma = 0.5 * (nonbonded.sigma[i] + nonbonded.sigma[j])
    epsilon = np.sqrt(nonbonded.epsilon[i] * nonbonded.epsilon[j])
    cutoff = np.full(len(i), np.inf)
    field, shift = np.zeros(len(i)), np.zeros(len(i))
    if nonbonded.cutoff is not None:
        dielectric, r_c = nonbonded.reaction_field_dielectric, nonbonded.cutoff
        cutoff[:] = r_c
        field[:] = (dielectric - 1) / (2 * dielectric + 1) / r_c**3
        shift[:] = 3 * dielectric / (2 * dielectric + 1) / r_c
    row_of = _row_of(len(nonbonded.charges), i, j, repeated)
    excluded = row_of[tuple(nonbonded.exclusions.T)]
    special = row_of[tuple(nonbonded.exceptions.T)]
    charge[excluded] = epsilon[excluded] = 0.0
    charge[special] = nonbonded.exception_charges
    sigma[special] = nonbonded.exception_sigma
    epsilon[special] = nonbonded.exception_epsilon
    for row in (excluded, special):
        cutoff[row], field[row], shift[row] = np.inf, 0.0, 0.0
    a, b = 4 * epsilon * sigma**12, 4 * epsilon * sigma**6
    if nonbonded.table is not None:
        by_type = nonbonded.table
        among = (by_type.types[i], by_type.types[j])
        with_type = np.ones(len(i), dtype=bool)
        with_type[row_of[tuple(by_type.exclusions.T)]] = False
        a += np.where(with_type, by_type.a[among], 0.0)
        b += np.where(with_type, by_type.b[among], 0.0)
        # Pairs without Coulomb are cut too; with a cutoff no exception is among these.
        cutoff[with_type] = np.inf if by_type.cutoff is None else by_type.cutoff
    if repeated is not None:
        charge[repeated] = a[repeated] = b[repeated] = 0.0
    return PairTable(i, j, COULOMB * charge, a, b, cutoff, field, shift)


def _row_of(n_atoms: int, i: Integers, j: Integers, repeated: NDArray[np.bool_] | None) -> Integers:
    """Row of each pair of atoms, (n_atoms, n_atoms), where the list holds it first; -1 without one."""
    rows = np.full((n_atoms, n_atoms), -1, dtype=np.int64)
    once = np.arange(len(i)) if repeated is None else np.flatnonzero(~repeated)
    rows[j[once], i[once]] = rows[i[once], j[once]] = once
    return rows


@dataclass(frozen=True, eq=False)
class TorsionTable:
    """All torsions on the same four atoms as one: E = P(cos phi) + sin phi Q(cos phi).

    Attributes
    ----------
    atoms
        (n, 4).
    even, odd
        (degree + 1, n) power-series coefficients of P and Q, lowest first; `odd` is empty if no phase needs it.
    cmap
        (m, 2) rows of the torsions of each correction map.
    """

    atoms: Integers
    even: Floats
    odd: Floats
    cmap: Integers


def torsion_table(parameters: Parameters) -> TorsionTable:
    """Merge periodic and Ryckaert-Bellemans torsions: multiple angles become polynomials of cos phi."""
    rows: dict[tuple[int, ...], int] = {}
    cosines: list[dict[int, float]] = []
    sines: list[dict[int, float]] = []

    def row(atoms: list[int]) -> int:
        """Return the number of a quadruple; a torsion read backwards is the same torsion."""
        key = min(tuple(atoms), tuple(reversed(atoms)))
        if key not in rows:
            rows[key] = len(rows)
            cosines.append({})
            sines.append({})
        return rows[key]

    def add(terms: dict[int, float], n: int, value: float) -> None:
        terms[n] = terms.get(n, 0.0) + value

    for atoms, (n, phase, k) in zip(
        parameters.torsions.atoms.tolist(), parameters.torsions.values.tolist(), strict=True
    ):
        number = row(atoms)
        if k:
            add(cosines[number], 0, k)
            add(cosines[number], int(n), k * np.cos(phase))
            # Files round pi to a dozen digits: such a sine is no phase.
            if abs(np.sin(phase)) > 1e-10:
                add(sines[number], int(n), k * np.sin(phase))
    for atoms, values in zip(parameters.rb_torsions.atoms.tolist(), parameters.rb_torsions.values, strict=True):
        # psi = phi - pi, so cos psi = -cos phi.
        for n, value in enumerate(chebyshev.poly2cheb(values * (-1.0) ** np.arange(6))):
            add(cosines[row(atoms)], n, float(value))
    cmap = [[row(eight[:4]), row(eight[4:])] for eight in parameters.cmap.atoms.tolist()] if parameters.cmap else []
    degree = max((n for terms in (*cosines, *sines) for n in terms), default=0)
    even = np.zeros((degree + 1, len(rows)))
    odd = np.zeros((degree if any(sines) else 0, len(rows)))
    for number, (cosine, sine) in enumerate(zip(cosines, sines, strict=True)):
        for n, value in cosine.items():
            even[: n + 1, number] += value * chebyshev.cheb2poly(np.eye(n + 1)[n])
        for n, value in sine.items():
            # sin n phi = sin phi U_{n-1}(cos phi), and U_{n-1} = T_n' / n.
            odd[:n, number] += value * np.polynomial.polynomial.polyder(chebyshev.cheb2poly(np.eye(n + 1)[n])) / n
    return TorsionTable(
        np.array(list(rows), dtype=np.int64).reshape(-1, 4),
        even,
        odd,
        np.array(cmap, dtype=np.int64).reshape(-1, 2),
    )


def spline_patches(cmap: Cmap) -> list[Floats]:
    """Bicubic coefficients (size, size, 4, 4) of each map: sum_ab c[i, j, a, b] u^a v^b with u, v in [0, 1).

    Slopes come from periodic cubic splines through the grid, first along each angle, then along both.
    """
    hermite = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]], dtype=np.float64)
    patches = []
    for grid in cmap.maps:
        slope = _periodic_slope(len(grid))
        by_first, by_second = slope @ grid, grid @ slope.T
        both = slope @ grid @ slope.T

        def corners(values: Floats) -> Floats:
            rolled = np.roll(values, -1, 0)
            return np.stack(
                [
                    np.stack([values, np.roll(values, -1, 1)], -1),
                    np.stack([rolled, np.roll(rolled, -1, 1)], -1),
                ],
                -2,
            )

        block = np.concatenate(
            [
                np.concatenate([corners(grid), corners(by_second)], -1),
                np.concatenate([corners(by_first), corners(both)], -1),
            ],
            -2,
        )
        patches.append(hermite @ block @ hermite.T)
    return patches


def _periodic_slope(size: int) -> Floats:
    """Matrix that takes values on a unit grid to the slopes of the periodic cubic spline through them."""
    eye = np.eye(size)
    system = 4 * eye + np.roll(eye, 1, 0) + np.roll(eye, -1, 0)
    right = 3 * (np.roll(eye, -1, 0) - np.roll(eye, 1, 0))
    return np.linalg.solve(system, right).astype(np.float64)
