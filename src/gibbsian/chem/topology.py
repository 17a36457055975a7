"""What a molecule is, as plain data: atoms, residues, bonds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Topology:
    """Atoms, residues and bonds of one chain, in the order that every array follows.

    Attributes
    ----------
    atom_names, elements
        One string per atom: PDB atom name and chemical symbol.
    residue_index
        (n_atoms,) index of each atom's residue.
    residue_names, residue_ids
        One string per residue: three-letter PDB name and number as in the source file.
    bonds
        (n_bonds, 2) atom indices, each row ascending, rows sorted.
    """

    atom_names: tuple[str, ...]
    elements: tuple[str, ...]
    residue_index: NDArray[np.int64]
    residue_names: tuple[str, ...]
    residue_ids: tuple[str, ...]
    bonds: NDArray[np.int64]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atom_names)

    @property
    def n_residues(self) -> int:
        """Number of residues, caps included."""
        return len(self.residue_names)

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of each atom, ascending."""
        lists: list[list[int]] = [[] for _ in range(self.n_atoms)]
        for i, j in self.bonds.tolist():
            lists[i].append(j)
            lists[j].append(i)
        return tuple(tuple(sorted(atoms)) for atoms in lists)

    @cached_property
    def _lookup(self) -> dict[tuple[int, str], int]:
        return {(int(r), name): i for i, (r, name) in enumerate(zip(self.residue_index, self.atom_names, strict=True))}

    def find(self, residue: int, name: str) -> int | None:
        """Index of the atom called `name` in a residue, or None."""
        return self._lookup.get((residue, name))

    def atoms_of(self, residue: int) -> list[int]:
        """Atom indices of one residue, ascending."""
        return np.flatnonzero(self.residue_index == residue).tolist()

    def to_dict(self) -> dict[str, Any]:
        """Return the topology as lists and strings, for JSON."""
        return {
            "atom_names": list(self.atom_names),
            "elements": list(self.elements),
            "residue_index": self.residue_index.tolist(),
            "residue_names": list(self.residue_names),
            "residue_ids": list(self.residue_ids),
            "bonds": self.bonds.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild a topology from `to_dict`."""
        return cls(
            atom_names=tuple(content["atom_names"]),
            elements=tuple(content["elements"]),
            residue_index=np.array(content["residue_index"], dtype=np.int64),
            residue_names=tuple(content["residue_names"]),
            residue_ids=tuple(content["residue_ids"]),
            bonds=np.array(content["bonds"], dtype=np.int64).reshape(-1, 2),
        )
