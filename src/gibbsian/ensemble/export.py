"""Ensembles and trajectories for other programs. What rounds coordinates is too coarse to compute weights from."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.formats import DCD, HDF5, MMCIF, PDB, XTC, format_of
from gibbsian.ensemble.weights import resample
from gibbsian.errors import InputError
from gibbsian.files import make_folder

if TYPE_CHECKING:
    import mdtraj

CHUNK = 1000
"""Frames that are prepared for writing at a time."""

PDB_LIMIT = 99.9
"""Largest coordinate in nm that keeps its three decimals, in Angstrom, with a minus sign."""

Frames = NDArray[np.floating]


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
    folder = Path(folder)
    index = resample(ensemble.weights, n, seed=seed)
    trajectory, structure = folder / "ensemble.xtc", folder / "topology.pdb"
    make_folder(folder)
    write_trajectory(trajectory, ensemble.topology, _centred(ensemble, index))
    write_trajectory(structure, ensemble.topology, next(_centred(ensemble, index[:1])))
    return trajectory, structure


def _centred(ensemble: Ensemble, index: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Frames at `index` about their centres, piece by piece."""
    for start in range(0, len(index), CHUNK):
        x = ensemble.positions[index[start : start + CHUNK]]
        yield x - x.mean(axis=1, keepdims=True)


def write_trajectory(path: Path | str, topology: Topology, positions: Frames | Iterable[Frames]) -> int:
    """Write conformations in the format that the ending of `path` names, atomically.

    Parameters
    ----------
    path
        ``.pdb`` (several models), ``.cif``, ``.xtc``, ``.dcd`` or ``.h5``; the folder must exist.
    topology
        Atoms of the conformations; PDB, mmCIF and HDF5 files carry it.
    positions
        (n, n_atoms, 3) nm, which may be memory-mapped, or pieces of that shape, one after the other. Only one piece
        at a time is converted.

    Returns
    -------
    Number of frames written.

    Raises
    ------
    InputError
        For an unknown ending, no frames, coordinates of another shape, not finite or too large for the format, or a
        file that cannot be written.
    """
    path = Path(path)
    kind = format_of(path)
    write = _WRITERS[kind.name]
    # The temporary name has the usual ending, by which libraries know the format.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{kind.suffixes[0]}")
    try:
        temporary.touch()
        count = write(temporary, topology, _pieces(path, topology, positions))
        if count == 0:
            raise InputError(f"{path}: no frames to write; give at least one")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        raise InputError(f"{path}: cannot write ({reason}); choose another folder or format") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _pieces(path: Path, topology: Topology, positions: Frames | Iterable[Frames]) -> Iterator[NDArray[np.float32]]:
    """Pieces of at most `CHUNK` frames, checked, in float32."""
    done = 0
    for piece in (positions,) if isinstance(positions, np.ndarray) else positions:
        if piece.ndim != 3 or piece.shape[1:] != (topology.n_atoms, 3):
            raise InputError(f"{path}: positions of shape {piece.shape}; give (n, {topology.n_atoms}, 3) in nm")
        for start in range(0, len(piece), CHUNK):
            part = np.ascontiguousarray(piece[start : start + CHUNK], dtype=np.float32)
            bad = ~np.isfinite(part).all(axis=(1, 2))
            if bad.any():
                frame = done + int(np.flatnonzero(bad)[0])
                raise InputError(f"{path}: coordinates of frame {frame} are not finite; leave it out")
            yield part
            done += len(part)


def _write_xtc(path: Path, topology: Topology, pieces: Iterable[NDArray[np.float32]]) -> int:
    from mdtraj.formats import XTCTrajectoryFile

    done = 0
    with XTCTrajectoryFile(str(path), "w") as file:
        for x in pieces:
            step = np.arange(done, done + len(x), dtype=np.int32)
            # A box of zeros says that there is none.
            file.write(x, time=step.astype(np.float32), step=step, box=np.zeros((len(x), 3, 3), dtype=np.float32))
            done += len(x)
    return done


def _write_dcd(path: Path, topology: Topology, pieces: Iterable[NDArray[np.float32]]) -> int:
    from mdtraj.formats import DCDTrajectoryFile

    done = 0
    with DCDTrajectoryFile(str(path), "w") as file:
        for x in pieces:
            file.write(10.0 * x)  # Angstrom
            done += len(x)
    return done


def _write_hdf5(path: Path, topology: Topology, pieces: Iterable[NDArray[np.float32]]) -> int:
    from mdtraj.formats import HDF5TrajectoryFile

    done = 0
    with HDF5TrajectoryFile(str(path), "w") as file:
        file.topology = to_mdtraj(topology)
        for x in pieces:
            file.write(x, time=np.arange(done, done + len(x), dtype=np.float32))
            done += len(x)
    return done


def _write_pdb(path: Path, topology: Topology, pieces: Iterable[NDArray[np.float32]]) -> int:
    from mdtraj.formats import PDBTrajectoryFile

    done, names = 0, to_mdtraj(topology)
    with PDBTrajectoryFile(str(path), "w") as file:
        for x in pieces:
            if np.abs(x).max() > PDB_LIMIT:
                raise ValueError(f"PDB has no columns for coordinates beyond {PDB_LIMIT:g} nm")
            for frame in x.astype(np.float64):
                # Model numbers have four columns.
                file.write(10.0 * frame, names, modelIndex=done % 9999 + 1)
                done += 1
    return done


def _write_mmcif(path: Path, topology: Topology, pieces: Iterable[NDArray[np.float32]]) -> int:
    from mdtraj.formats import PDBxTrajectoryFile

    done, names = 0, to_mdtraj(topology)
    with PDBxTrajectoryFile(str(path), "w") as file:
        for x in pieces:
            for frame in x.astype(np.float64):
                file.write(frame, names)
                done += 1
    return done


_WRITERS: dict[str, Callable[[Path, Topology, Iterable[NDArray[np.float32]]], int]] = {
    PDB.name: _write_pdb,
    MMCIF.name: _write_mmcif,
    XTC.name: _write_xtc,
    DCD.name: _write_dcd,
    HDF5.name: _write_hdf5,
}
