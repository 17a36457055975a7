"""The Z-matrix of a molecule: which atom is placed from which, worked out from bonds and atom names alone."""

import itertools
import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError

Kind = Literal["proper", "delta", "ring"]
Group = Literal["backbone", "sidechain", "hydrogen"]

_LARGEST_RIGID_RING = 8


@dataclass(frozen=True, eq=False)
class ZMatrix:
    """Rows in placement order; row k places atom `atoms[k]` from `references[k]`.

    Attributes
    ----------
    atoms
        (n,) atom index of each row.
    references
        (n, 3) atoms (a, b, c): bond i-a, angle i-a-b, torsion i-a-b-c; -1 where a row has none (the first three rows).
    kinds
        (n - 3) kind of each torsion: ``proper`` (full circle), ``delta`` (azimuth relative to a sibling that is already
        placed, narrow, its sign is the chirality) or ``ring`` (torsion about a bond of a small ring, narrow).
    groups
        (n - 3) where the placed atom sits: ``backbone``, ``sidechain``, or ``hydrogen``.
    residues
        (n,) residue of each placed atom.
    n_backbone
        The first rows, each placed from the ones just before it: the chain of N, CA, C with the heavy atoms of caps.
    """

    atoms: NDArray[np.int64]
    references: NDArray[np.int64]
    kinds: tuple[Kind, ...]
    groups: tuple[Group, ...]
    residues: NDArray[np.int64]
    n_backbone: int

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    def torsion_atoms(self) -> NDArray[np.int64]:
        """Return the four atoms (i, a, b, c) of every torsion, (n - 3, 4)."""
        return np.concatenate([self.atoms[3:, None], self.references[3:]], axis=1)

    def stages(self) -> list[NDArray[np.int64]]:
        """Rows that can be placed at the same time, after the first three: row indices of each stage."""
        stage_of_atom = {int(atom): 0 for atom in self.atoms[:3]}
        stages: dict[int, list[int]] = {}
        for row in range(3, self.n_atoms):
            stage = 1 + max(stage_of_atom[int(atom)] for atom in self.references[row])
            stage_of_atom[int(self.atoms[row])] = stage
            stages.setdefault(stage, []).append(row)
        return [np.array(stages[stage]) for stage in sorted(stages)]


def build_zmatrix(topology: Topology) -> ZMatrix:
    """Build the Z-matrix of a connected molecule of at least four atoms.

    The backbone comes first, then heavy atoms breadth-first, then hydrogens. The first atom attached to a pair (a, b)
    has a proper torsion; every further one is placed relative to that first one, so its torsion is a narrow difference
    of azimuths with unit Jacobian.

    Raises
    ------
    InputError
        If the molecule has fewer than four atoms or is not connected.
    """
    if topology.n_atoms < 4:
        raise InputError(f"topology: internal coordinates need at least 4 atoms, got {topology.n_atoms}; add atoms")
    path = _backbone(topology)
    builder = _Builder(topology, path)
    for hydrogens in (False, True):
        builder.attach_all(hydrogens)
    if len(builder.rows) < topology.n_atoms:
        missing = sorted(set(range(topology.n_atoms)) - set(builder.rows))
        raise InputError(
            f"topology: atom {missing[0]} ({topology.atom_names[missing[0]]}) is not bonded to the rest of the chain; "
            "give one connected molecule"
        )
    return builder.finish()


def _key(topology: Topology, atom: int) -> tuple[int, int, int, str]:
    """Order of neighbours: residue, heavy before hydrogen, branch number (OG1 before CG2: chi1 of Thr), name."""
    name = topology.atom_names[atom]
    digits = re.search(r"(\d+)$", name)
    return (
        int(topology.residue_index[atom]),
        int(topology.elements[atom] == "H"),
        int(digits.group(1)) if digits else 0,
        name,
    )


class _Builder:
    """Grows the tree; `rows` maps each placed atom to its references, in placement order."""

    def __init__(self, topology: Topology, path: list[int]) -> None:
        self.topology = topology
        self.path = path
        self.rows: dict[int, tuple[int, int, int]] = {}
        self.kinds: dict[int, Kind] = {}
        self.first_child: dict[int, int] = {}
        for k, atom in enumerate(path):
            a, b, c = (path[k - 1 - m] if k > m else -1 for m in range(3))
            self.rows[atom] = (a, b, c)
            if k >= 3:
                self.kinds[atom] = "proper"
            if k >= 1:
                self.first_child[path[k - 1]] = atom
        # The root looks along the chain: its own first child is a proper torsion, not a sibling of the second atom.
        del self.first_child[path[0]]

    def attach_all(self, hydrogens: bool) -> None:
        frontier = list(self.rows)
        while frontier:
            new: list[int] = []
            for parent in sorted(frontier, key=lambda atom: _key(self.topology, atom)):
                children = [
                    i
                    for i in self.topology.neighbours[parent]
                    if i not in self.rows and (hydrogens or self.topology.elements[i] != "H")
                ]
                for child in sorted(children, key=lambda atom: _key(self.topology, atom)):
                    self._attach(child, parent)
                    new.append(child)
            frontier = new

    def _attach(self, child: int, parent: int) -> None:
        b = self.path[1] if parent == self.path[0] else self.rows[parent][0]
        sibling = self.first_child.get(parent)
        if sibling is not None:
            self.rows[child] = (parent, b, sibling)
            self.kinds[child] = "delta"
            return
        c = self.path[2] if parent == self.path[0] else self.rows[parent][1]
        if c < 0:  # the parent is the second atom of the chain: look from its own first child
            c = self.path[2]
        self.rows[child] = (parent, b, c)
        self.kinds[child] = "ring" if _in_small_ring(self.topology, parent, b) else "proper"
        self.first_child[parent] = child

    def finish(self) -> ZMatrix:
        atoms = np.array(list(self.rows))
        on_path = set(self.path)

        def group(atom: int) -> Group:
            if self.topology.elements[atom] == "H":
                return "hydrogen"
            return "backbone" if atom in on_path or self.rows[atom][0] in on_path else "sidechain"

        return ZMatrix(
            atoms=atoms,
            references=np.array(list(self.rows.values())),
            kinds=tuple(self.kinds[int(atom)] for atom in atoms[3:]),
            groups=tuple(group(int(atom)) for atom in atoms[3:]),
            residues=np.asarray(self.topology.residue_index)[atoms],
            n_backbone=len(self.path),
        )


def _backbone(topology: Topology) -> list[int]:
    """Chain of N, CA, C with the heavy atoms of caps; the longest chain of bonds where there is no peptide."""
    path: list[int] = []
    for residue in range(topology.n_residues):
        atoms = [topology.find(residue, name) for name in ("N", "CA", "C")]
        if None not in atoms:
            path.extend(atom for atom in atoms if atom is not None)
    bonded = all(b in topology.neighbours[a] for a, b in itertools.pairwise(path))
    if not path or not bonded:
        return _longest_chain(topology)
    return _cap(topology, _cap(topology, path)[::-1])[::-1]


def _cap(topology: Topology, path: list[int]) -> list[int]:
    """Continue the chain into the capping residue behind its last atom, by at most two heavy atoms."""
    residue = topology.residue_index[path[-1]]
    for step in range(2):
        nexts = [
            i
            for i in topology.neighbours[path[-1]]
            if i not in path and topology.residue_index[i] != residue and topology.elements[i] not in ("H", "O")
        ]
        if not nexts or (step == 0 and len(nexts) > 1):
            break
        path = [*path, min(nexts, key=lambda atom: _key(topology, atom))]
    return path


def _longest_chain(topology: Topology) -> list[int]:
    """Longest shortest path, over heavy atoms if three of them are in line, else over all atoms."""

    def farthest(start: int, allowed: set[int]) -> list[int]:
        previous = {start: -1}
        queue = deque([start])
        last = start
        while queue:
            last = queue.popleft()
            for i in topology.neighbours[last]:
                if i in allowed and i not in previous:
                    previous[i] = last
                    queue.append(i)
        chain = [last]
        while previous[chain[-1]] >= 0:
            chain.append(previous[chain[-1]])
        return chain

    everything = set(range(topology.n_atoms))
    heavy = {i for i in everything if topology.elements[i] != "H"}
    for allowed in (heavy, everything):
        if allowed:
            chain = farthest(farthest(min(allowed), allowed)[0], allowed)
            if len(chain) >= 3:
                return chain
    raise InputError("topology: no chain of three bonded atoms; give one connected molecule")


def _in_small_ring(topology: Topology, a: int, b: int) -> bool:
    """Whether the bond a-b belongs to a ring of at most eight atoms (rings through disulfides are not rigid)."""
    seen = {a}
    frontier = {a}
    for _ in range(_LARGEST_RIGID_RING - 1):
        frontier = {j for i in frontier for j in topology.neighbours[i] if j not in seen and not (i == a and j == b)}
        if b in frontier:
            return True
        seen |= frontier
    return False
