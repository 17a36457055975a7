"""What a structure must be before it is repaired: one unbroken L-peptide without ligands."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.residues import ALIASES, CAPS, CHIRAL, SUPPORTED
from gibbsian.errors import InputError

if TYPE_CHECKING:
    from openmm import app

Floats = NDArray[np.float64]

_WATER = {"HOH", "WAT", "H2O", "DOD", "SOL", "TIP", "TP3", "TIP3", "TIP4", "SPC"}
_IONS = {"NA", "NA+", "SOD", "CL", "CL-", "CLA", "K", "K+", "POT"}
_LONGEST_PEPTIDE_BOND = 0.2  # nm; 0.133 is ideal


def describe(residue: "app.topology.Residue") -> str:
    """``chain A, residue ALA 3``."""
    return f"chain {residue.chain.id}, residue {residue.name} {residue.id}"


def is_solvent(residue: "app.topology.Residue") -> bool:
    """Whether a residue is water or a monovalent salt ion."""
    return residue.name.upper() in _WATER | _IONS


def screen(path: Path, topology: "app.Topology") -> None:
    """Refuse unknown residues, ligands, and anything but one chain. Solvent is passed over."""
    chains = []
    for chain in topology.chains():
        residues = [r for r in chain.residues() if not is_solvent(r)]
        for residue in residues:
            if ALIASES.get(residue.name, residue.name) in SUPPORTED:
                continue
            names = {atom.name for atom in residue.atoms()}
            if {"N", "CA", "C"} <= names:
                known = ", ".join(sorted(SUPPORTED))
                raise InputError(f"{path}: {describe(residue)}: unknown residue; known are {known}")
            raise InputError(
                f"{path}: {describe(residue)}: is a ligand, not part of a peptide; remove it from the file"
            )
        if residues:
            chains.append(chain)
    if not chains:
        raise InputError(f"{path}: has no protein; give a structure with one protein chain")
    if len(chains) > 1:
        listed = ", ".join(str(chain.id) for chain in chains)
        raise InputError(f"{path}: has {len(chains)} chains ({listed}); keep one, complexes are not supported")
    inner = [r for r in list(topology.residues())[1:-1] if r.name in CAPS]
    if inner:
        raise InputError(f"{path}: {describe(inner[0])}: a cap inside the chain; remove it")


def _atoms(topology: "app.Topology", x: Floats) -> Iterator[tuple["app.topology.Residue", dict[str, Floats]]]:
    for residue in topology.residues():
        yield residue, {atom.name: x[atom.index] for atom in residue.atoms()}


def check_backbone(path: Path, topology: "app.Topology", x: Floats) -> None:
    """Refuse a residue without its backbone, and two neighbours that are not bonded."""
    before: tuple[app.topology.Residue, dict[str, Floats]] | None = None
    for residue, atoms in _atoms(topology, x):
        needed = {"ACE": ("C",), "NME": ("N",), "NH2": ("N",), "NHE": ("N",)}.get(residue.name, ("N", "CA", "C"))
        missing = [name for name in needed if name not in atoms]
        if missing:
            raise InputError(f"{path}: {describe(residue)}: has no {', '.join(missing)}; complete the backbone")
        if before is not None:
            length = float(np.linalg.norm(before[1]["C"] - atoms["N"]))
            if length > _LONGEST_PEPTIDE_BOND:
                where = f"{describe(before[0])} and {describe(residue)}"
                raise InputError(
                    f"{path}: broken chain, C and N are {length:.2f} nm apart between {where}; complete it"
                )
        before = residue, atoms


def check_chirality(path: Path, topology: "app.Topology", x: Floats) -> None:
    """Refuse a residue whose CA is that of a D-amino acid, and Ile or Thr with a mirrored CB."""
    for residue, atoms in _atoms(topology, x):
        for names in (("CA", "N", "C", "CB"), *CHIRAL.get(residue.name, ())):
            if not set(names) <= set(atoms):
                continue
            centre, a, b, c = (atoms[name] for name in names)
            if float(np.dot(np.cross(a - centre, b - centre), c - centre)) < 0:
                what = "is a D-amino acid" if names[0] == "CA" else f"has a mirrored {names[0]}"
                raise InputError(f"{path}: {describe(residue)}: {what}; only L-residues are supported")
