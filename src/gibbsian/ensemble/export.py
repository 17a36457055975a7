"""Ensembles for other programs: XTC trajectories and PDB files, too coarse to compute weights from."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import resample
from gibbsian.errors import InputError

if TYPE_CHECKING:
    import mdtraj


def to_mdtraj(topology: Topology) -> "mdtraj.Topology":
    """Topology in mdtraj's terms, one chain."""
    import mdtraj

    result = mdtraj.Topology()
    chain = result.add_chain()
    residues = []
    for name, number in zip(topology.residue_names, topology.residue_ids, strict=True):
        digits = "".join(c for c in number if c.isdigit() or c == "-")
        residues.append(result.add_residue(name, chain, resSeq=int(digits) if digits else None))
    atoms = []
    for name, symbol, r in zip(topology.atom_names, topology.elements, topology.residue_index, strict=True):
        atoms.append(result.add_atom(name, mdtraj.element.get_by_symbol(symbol), residues[int(r)]))
    for i, j in topology.bonds.tolist():
        result.add_bond(atoms[i], atoms[j])
    return result


def from_mdtraj(topology: "mdtraj.Topology") -> Topology:
    """Topology of ours from mdtraj's; standard residues get their bonds if the source has none."""
    if topology.n_bonds == 0:
        topology.create_standard_bonds()
    atoms, residues = list(topology.atoms), list(topology.residues)
    bonds = sorted({tuple(sorted((a.index, b.index))) for a, b in topology.bonds})
    return Topology(
        atom_names=tuple(atom.name for atom in atoms),
        elements=tuple(atom.element.symbol if atom.element else "" for atom in atoms),
        residue_index=np.array([atom.residue.index for atom in atoms], dtype=np.int64),
        residue_names=tuple(residue.name for residue in residues),
        residue_ids=tuple(str(residue.resSeq) for residue in residues),
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 2),
    )


def export(ensemble: Ensemble, folder: Path | str, *, n: int = 1000, seed: int = 0) -> tuple[Path, Path]:
    """Write `n` equal-weight conformations as ``ensemble.xtc`` and the first of them as ``topology.pdb``.

    Conformations are drawn by their weights (systematic resampling), so that any viewer or analysis that
    knows no weights shows the Boltzmann ensemble; heavy ones repeat.

    Raises
    ------
    InputError
        If the folder cannot be written or every weight is zero.
    """
    import mdtraj

    folder = Path(folder)
    index = resample(ensemble.weights, n, seed=seed)
    positions = ensemble.positions[index]
    frames = mdtraj.Trajectory(positions - positions.mean(axis=1, keepdims=True), to_mdtraj(ensemble.topology))
    trajectory, structure = folder / "ensemble.xtc", folder / "topology.pdb"
    # The temporary name keeps the ending, by which mdtraj knows the format.
    parts = [(frames, trajectory), (frames[0], structure)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for content, path in parts:
            temporary = path.with_name(f".tmp-{path.name}")
            content.save(str(temporary))
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror or error}); choose another folder") from error
    return trajectory, structure
