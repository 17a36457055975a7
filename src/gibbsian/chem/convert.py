"""Between OpenMM's topology and ours, and PDB text."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.residues import ALIASES, parent
from gibbsian.chem.topology import Topology
from gibbsian.files import write_text

if TYPE_CHECKING:
    from openmm import app, unit

Floats = NDArray[np.float64]


def nanometers(values: Any) -> "unit.Quantity":
    """Numbers in nm as OpenMM's lengths; an (n, 3) array becomes a list of its vectors."""
    import openmm
    from openmm import unit

    plain = [openmm.Vec3(*row) for row in values.tolist()] if isinstance(values, np.ndarray) else values
    return plain * unit.nanometer  # pyright: ignore[reportAttributeAccessIssue]


def in_nanometers(lengths: Any) -> Floats:
    """OpenMM's lengths as plain numbers, of any shape."""
    from openmm import unit

    return np.array(lengths.value_in_unit(unit.nanometer), dtype=np.float64)  # pyright: ignore[reportAttributeAccessIssue]


def variant_name(name: str, atoms: set[str], disulfide: bool = False) -> str:
    """Name of the protonation variant that the atoms present say it is."""
    base = parent(ALIASES.get(name, name))
    if base == "HIS":
        return {(True, True): "HIP", (True, False): "HID"}.get(("HD1" in atoms, "HE2" in atoms), "HIE")
    if base == "CYS" and "HG" not in atoms:
        return "CYX" if disulfide else "CYM"
    if base == "ASP" and atoms & {"HD1", "HD2"}:
        return "ASH"
    if base == "GLU" and atoms & {"HE1", "HE2"}:
        return "GLH"
    if base == "LYS" and not {"HZ1", "HZ2", "HZ3"} <= atoms:
        return "LYN"
    return base


def topology_from_openmm(topology: "app.Topology") -> Topology:
    """Plain-data copy of an OpenMM topology with hydrogens; residues carry the names of their protonation variants."""
    atoms = list(topology.atoms())
    pairs = sorted({tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds()})
    sulphur = {i for i, atom in enumerate(atoms) if atom.name == "SG"}
    bridged = {i for pair in pairs if set(pair) <= sulphur for i in pair}
    residues = list(topology.residues())
    names = []
    for residue in residues:
        members = list(residue.atoms())
        disulfide = any(atom.index in bridged for atom in members)
        names.append(variant_name(residue.name, {atom.name for atom in members}, disulfide))
    return Topology(
        atom_names=tuple(atom.name for atom in atoms),
        elements=tuple(atom.element.symbol if atom.element is not None else "X" for atom in atoms),
        residue_index=np.array([atom.residue.index for atom in atoms], dtype=np.int64),
        residue_names=tuple(names),
        residue_ids=tuple(str(residue.id) for residue in residues),
        bonds=np.array(pairs, dtype=np.int64).reshape(-1, 2),
    )


def to_openmm(topology: Topology) -> "app.Topology":
    """OpenMM topology, one chain ``A``; variants carry the name of their residue as in a PDB file."""
    from openmm import app

    result = app.Topology()
    chain = result.addChain("A")
    residues = [
        result.addResidue(parent(name), chain, number)
        for name, number in zip(topology.residue_names, topology.residue_ids, strict=True)
    ]
    atoms = [
        result.addAtom(name, app.Element.getBySymbol(symbol), residues[int(residue)])
        for name, symbol, residue in zip(topology.atom_names, topology.elements, topology.residue_index, strict=True)
    ]
    for i, j in topology.bonds.tolist():
        result.addBond(atoms[i], atoms[j])
    return result


def pdb_string(topology: Topology, positions: NDArray[np.floating]) -> str:
    """PDB text of one structure (n_atoms, 3) or of several models (n, n_atoms, 3), given in nm.

    Residues keep their numbers if all are plain ones of up to four digits, else they are counted from 1.
    """
    models = np.asarray(positions, dtype=np.float64).reshape(-1, topology.n_atoms, 3) * 10.0
    plain = all(number.isdigit() and len(number) <= 4 for number in topology.residue_ids)
    numbers = [int(n) for n in topology.residue_ids] if plain else list(range(1, topology.n_residues + 1))
    heads, tails = [], []
    for i, (name, element, residue) in enumerate(
        zip(topology.atom_names, topology.elements, topology.residue_index.tolist(), strict=True)
    ):
        label = f" {name:<3s}" if len(name) < 4 and len(element) == 1 else f"{name:<4s}"
        group = parent(topology.residue_names[residue])
        heads.append(f"ATOM  {(i + 1) % 100000:5d} {label} {group:<3s} A{numbers[residue]:4d}    ")
        tails.append(f"  1.00  0.00          {element:>2s}")
    lines = []
    for k, model in enumerate(models):
        if len(models) > 1:
            lines.append(f"MODEL {k + 1:8d}")
        lines.extend(
            f"{head}{x:8.3f}{y:8.3f}{z:8.3f}{tail}"
            for head, (x, y, z), tail in zip(heads, model.tolist(), tails, strict=True)
        )
        lines.append("TER")
        if len(models) > 1:
            lines.append("ENDMDL")
    return "\n".join([*lines, "END"]) + "\n"


def write_pdb(path: Path, topology: Topology, positions: NDArray[np.floating]) -> None:
    """Write one or several models as a PDB file, atomically. An unwritable path is an InputError."""
    write_text(Path(path), pdb_string(topology, positions))
