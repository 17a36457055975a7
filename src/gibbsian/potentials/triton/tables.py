"""Parameters arranged for the GPU: tables over ordered pairs of atoms, and lists of each atom's bonded terms."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.born import ACE_PROBE, Born
from gibbsian.chem.parameters import Parameters
from gibbsian.potentials.coefficients import pair_table, spline_patches, torsion_table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairTables:
    """Coefficients of pairs and of atoms in solvent.

    Attributes
    ----------
    pairs
        (3 or 6, n, n) charge, a, b and, with a cutoff, its square, and field and shift times charge; see `PairTable`.
    neck
        (2, n, n) height and distance: element [:, j, i] is what atom j does to atom i. One element without necks.
    atoms
        (8, n) offset radius, its inverse, inverse radius, scaled radius, three coefficients of the rescaling, charge
        times the root of Coulomb's constant, and prefactor of the surface term. One element without solvent.
    constants
        What the kernels are compiled for, by the names of their arguments.
    """

    pairs: Tensor
    neck: Tensor
    atoms: Tensor
    constants: dict[str, float]


@dataclass(frozen=True, eq=False)
class TermLists:
    """One kind of bonded terms, each listed once for each of its atoms.

    Attributes
    ----------
    starts
        (n_atoms + 1,) first row of each atom.
    index
        (rows, 1 + m) the atom's place in the term (maps: its places in both torsions, 4 for none, then start and size
        of the patches) and the term's m atoms.
    values
        (rows, p) coefficients.
    """

    starts: Tensor
    index: Tensor
    values: Tensor


def pair_tables(parameters: Parameters, dtype: torch.dtype, device: torch.device) -> PairTables:
    """Tables of the pair terms."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device).contiguous()

    born = parameters.born
    pairs = _direct(parameters)
    constants: dict[str, float] = {"CUT": len(pairs) > 3, "IN_SOLVENT": born is not None}
    if born is None:
        none = tensor([0.0])
        return PairTables(tensor(pairs), none, none, constants | dict.fromkeys(_SOLVENT, 0.0))
    neck: object = [0.0]
    if born.neck is not None:
        neck = np.stack([born.neck.scale * born.neck.height.T, born.neck.distance.T])
    constants |= {
        "RESCALED": born.tanh is not None,
        "ENGULFED_TERM": born.engulfed_term,
        "NEGATIVE": bool((born.scaled_radii < 0).any()),
        "NECK_REACH": 2 * born.offset + born.neck.cut if born.neck else 0.0,
        "KAPPA": born.kappa,
        "SOLUTE": 1 / born.solute_dielectric,
        "SOLVENT": 1 / born.solvent_dielectric,
        "CUTOFF": born.cutoff or 0.0,
    }
    return PairTables(tensor(pairs), tensor(neck), tensor(_atoms(born)), constants)


_SOLVENT = ("RESCALED", "ENGULFED_TERM", "NEGATIVE", "NECK_REACH", "KAPPA", "SOLUTE", "SOLVENT", "CUTOFF")


def _direct(parameters: Parameters) -> Floats:
    n = parameters.n_atoms
    i, j = np.triu_indices(n, 1)
    table = pair_table(parameters.nonbonded, i, j)
    columns = [table.charge, table.a, table.b]
    if np.isfinite(table.cutoff).any():
        columns += [np.minimum(table.cutoff**2, 1e30), table.charge * table.field, table.charge * table.shift]
    square = np.zeros((len(columns), n, n))
    square[:, i, j] = square[:, j, i] = columns
    return square


def _atoms(born: Born) -> Floats:
    radius = born.offset_radii + born.offset
    tanh = np.zeros((len(radius), 3)) if born.tanh is None else born.tanh
    charge = np.sqrt(born.coulomb) * born.charges
    surface = born.surface * (radius + ACE_PROBE) ** 2 * radius**6
    return np.stack([born.offset_radii, 1 / born.offset_radii, 1 / radius, born.scaled_radii, *tanh.T, charge, surface])


def term_lists(parameters: Parameters, dtype: torch.dtype, device: torch.device) -> tuple[dict[str, TermLists], int]:
    """List all bonded terms, by kind; also return the number of even coefficients of a torsion."""
    torsions = torsion_table(parameters)
    kinds = {name: getattr(parameters, name) for name in ("bonds", "angles", "impropers")}
    rows = {name: (terms.atoms, terms.atoms, terms.values) for name, terms in kinds.items()}
    rows["torsions"] = (torsions.atoms, torsions.atoms, np.concatenate([torsions.even, torsions.odd]).T)
    lists = {name: _lists(parameters.n_atoms, *row, dtype, device) for name, row in rows.items()}
    lists["maps"] = _maps(parameters, dtype, device)
    return lists, len(torsions.even)


def _lists(
    n_atoms: int, atoms: Integers, columns: Integers, values: Floats, dtype: torch.dtype, device: torch.device
) -> TermLists:
    n, m = atoms.shape
    term, place = (a.ravel() for a in np.indices((n, m)))
    order = np.argsort(atoms.ravel(), kind="stable")
    index = np.concatenate([place[:, None], columns[term]], 1)[order]
    return TermLists(
        _starts(n_atoms, atoms.ravel(), device), _indices(index, device), _reals(values[term][order], dtype, device)
    )


def _maps(parameters: Parameters, dtype: torch.dtype, device: torch.device) -> TermLists:
    """List maps once for each atom, though it may be in both torsions; `values` holds all patches."""
    cmap = parameters.cmap
    if cmap is None:
        none = np.zeros(0, dtype=np.int64)
        return TermLists(
            _starts(parameters.n_atoms, none, device), _indices(none, device), _reals(np.zeros(0), dtype, device)
        )
    sizes = np.array([len(grid) for grid in cmap.maps])
    first = np.concatenate([[0], np.cumsum(sizes**2)[:-1]])
    owners, rows = [], []
    for number, eight in zip(cmap.index.tolist(), cmap.atoms.tolist(), strict=True):
        one, two = eight[:4], eight[4:]
        for atom in dict.fromkeys(eight):
            owners.append(atom)
            places = [four.index(atom) if atom in four else 4 for four in (one, two)]
            rows.append([*places, int(first[number]), int(sizes[number]), *eight])
    order = np.argsort(owners, kind="stable")
    patches = np.concatenate([patch.ravel() for patch in spline_patches(cmap)])
    return TermLists(
        _starts(parameters.n_atoms, np.array(owners), device),
        _indices(np.array(rows)[order], device),
        _reals(patches, dtype, device),
    )


def _starts(n_atoms: int, owners: Integers, device: torch.device) -> Tensor:
    return _indices(np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=n_atoms))]), device)


def _indices(values: Integers, device: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int32, device=device).contiguous()


def _reals(values: Floats, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=dtype, device=device).contiguous()
