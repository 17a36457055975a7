"""Anyone's ensemble: our own folders, `.npy` arrays, and trajectories that mdtraj reads.

Every reader puts atoms into the order of the topology it is given and relabels equivalent hydrogens to the one
handedness of the package. Nothing here computes an energy.
"""

import ctypes
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.hydrogens import relabel_hydrogens
from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import from_mdtraj
from gibbsian.ensemble.formats import DCD, HDF5, MMCIF, PDB, XTC, Format, format_of, rounding_of
from gibbsian.ensemble.store import MANIFEST, load
from gibbsian.errors import InputError

BOND_RANGE = (0.05, 0.25)
"""Sensible median bond length in nm; Angstrom coordinates give ten times as much."""
CHUNK = 1000
"""Frames that are relabelled at a time."""


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Conformations from one file or folder.

    Attributes
    ----------
    positions
        (n, n_atoms, 3) nm, in the order of `topology`, hydrogens with the package's labels.
    topology
        What they are conformations of.
    relabelled
        Number of frames in which hydrogens got another label.
    rounding
        Step in nm by which the format rounds; None where it keeps float32.
    """

    positions: NDArray[np.float32]
    topology: Topology
    relabelled: int
    rounding: float | None


def read_ensemble(
    path: Path | str,
    *,
    topology: Topology | Path | str | None = None,
    temperature: float | None = None,
    log_w: NDArray[np.float64] | None = None,
    names: Topology | Path | str | None = None,
) -> Ensemble:
    """Read an ensemble from disk.

    Parameters
    ----------
    path
        Folder written by `Ensemble.save`, or what `read_frames` reads.
    topology, names
        What the frames must be conformations of, as in `read_frames`.
    temperature
        K; needed for everything but our own folders, where it must agree.
    log_w
        (n,) log weights; None for equal weights (or those in our own folder).

    Returns
    -------
    Ensemble, whose provenance has ``source``, ``relabelled`` and ``rounding`` of a `FrameSet`; that of a folder is
    the folder's own.

    Raises
    ------
    InputError
        As `read_frames`, and for an unknown or another temperature.
    """
    path = Path(path)
    if path.is_dir():
        return _own(path, read_topology(topology), temperature)[0]
    if path.exists() and temperature is None:
        raise InputError(f"{path}: its temperature is unknown; give the temperature in K")
    found = read_frames(path, topology, names)
    assert temperature is not None
    n = len(found.positions)
    return Ensemble(
        positions=found.positions,
        log_w=np.zeros(n) if log_w is None else np.asarray(log_w, dtype=np.float64),
        topology=found.topology,
        temperature=temperature,
        # Frames of a trajectory are correlated: one lineage makes error bars come from blocks.
        lineage=np.zeros(n, dtype=np.int64),
        provenance={"source": path.name, "relabelled": found.relabelled, "rounding": found.rounding},
    )


def read_frames(
    path: Path | str, topology: Topology | Path | str | None = None, names: Topology | Path | str | None = None
) -> FrameSet:
    """Read conformations, whatever their weights.

    Parameters
    ----------
    path
        Folder written by `Ensemble.save`; ``.npy`` positions (n, n_atoms, 3) in nm; or ``.xtc``, ``.dcd``, ``.pdb``,
        ``.cif``, ``.h5``.
    topology
        What the frames must be conformations of: a Topology, or a PDB, mmCIF or HDF5 file. Needed for formats that
        bring none. Atoms of a file that names them are put into its order; others must come in it.
    names
        For formats that name no atoms: a topology that does, in the order of the file.

    Raises
    ------
    InputError
        For a missing, empty, truncated or unreadable file, another molecule, coordinates that are NaN or not in nm.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give an ensemble folder, .npy or trajectory file")
    expected = read_topology(topology)
    if path.is_dir():
        ensemble, changed = _own(path, expected, None)
        return FrameSet(ensemble.positions, ensemble.topology, changed, ensemble.provenance.get("rounding"))
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file; write it again")
    positions, own = (_array(path), None) if path.suffix == ".npy" else _trajectory(path, format_of(path))
    if own is None and names is not None:
        own = read_topology(names)
        assert own is not None
        _check_count(path, positions, own)
    if own is not None and expected is not None:
        index = match_atoms(path, own, expected)
        positions = positions if index is None else positions[:, index]
    found = own if expected is None else expected
    if found is None:
        raise InputError(f"{path}: {path.suffix} files carry no topology; give a PDB file of the same atoms")
    _check(path, positions, found)
    return FrameSet(positions, found, _relabel(found, positions), rounding_of(path))


def read_topology(topology: Topology | Path | str | None) -> Topology | None:
    """Return a topology as it is, or read it from a PDB, mmCIF or HDF5 file.

    Raises
    ------
    InputError
        If there is no such file or it cannot be read.
    """
    if topology is None or isinstance(topology, Topology):
        return topology
    path = Path(topology)
    if not path.is_file():
        raise InputError(f"{path}: no such topology file; give a PDB file of the molecule")
    found = format_of(path)
    if not found.self_contained:
        raise InputError(f"{path}: {found.name} files carry no topology; give a PDB file of the molecule")
    topology = _trajectory(path, found)[1]
    assert topology is not None
    return topology


def match_atoms(where: Path | str, found: Topology, wanted: Topology) -> NDArray[np.int64] | None:
    """Find where the atoms of `wanted` are in `found`: by residue and name, else by an equal sequence of elements.

    Returns
    -------
    (n_atoms,) indices that put `found` into the order of `wanted`; None where it has that order already.

    Raises
    ------
    InputError
        Naming `where`, if they are not the same molecule.
    """
    if found.n_atoms != wanted.n_atoms:
        raise InputError(
            f"{where}: {found.n_atoms} atoms, the molecule has {wanted.n_atoms}; give an ensemble of the same atoms"
        )
    names = zip(wanted.residue_index.tolist(), wanted.atom_names, strict=True)
    order = [found.find(residue, name) for residue, name in names]
    if None not in order and len(set(order)) == len(order):
        index = np.array(order, dtype=np.int64)
        return None if (np.diff(index) == 1).all() else index
    for i, (a, b) in enumerate(zip(wanted.elements, found.elements, strict=True)):
        if a != b:
            raise InputError(
                f"{where}: atom {i + 1} is {b} ({found.atom_names[i]}), expected {a} "
                f"({wanted.atom_names[i]}); put the atoms in the order of the molecule"
            )
    return None


def _own(folder: Path, expected: Topology | None, temperature: float | None) -> tuple[Ensemble, int]:
    """Ensemble in a folder, and the number of frames that got other labels."""
    if not (folder / MANIFEST).exists():
        raise InputError(f"{folder}: not an ensemble folder (no {MANIFEST}); give one, or a trajectory file")
    ensemble = load(folder)
    if temperature is not None and abs(temperature - ensemble.temperature) > 1e-6:
        raise InputError(
            f"{folder}: made at {ensemble.temperature:g} K, not {temperature:g} K; reweight it or ask for its own"
        )
    if expected is not None:
        index = match_atoms(folder, ensemble.topology, expected)
        x = ensemble.positions if index is None else ensemble.positions[:, index]
        ensemble = replace(ensemble, positions=x, topology=expected)
    return ensemble, _relabel(ensemble.topology, ensemble.positions)


def _relabel(topology: Topology, positions: NDArray[np.float32]) -> int:
    """Relabel hydrogens in place, piece by piece; returns the number of frames that changed."""
    changed = 0
    for start in range(0, len(positions), CHUNK):
        piece = positions[start : start + CHUNK]
        labelled = relabel_hydrogens(topology, piece)
        changed += int((labelled != piece).any(axis=(1, 2)).sum())
        piece[:] = labelled
    return changed


def _array(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not readable as .npy ({_line(error)}); save it with numpy.save") from error
    if array.ndim != 3 or array.shape[-1] != 3 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{path}: {array.dtype} array of shape {array.shape}; give floats (n, n_atoms, 3) in nm")
    return array.astype(np.float32, copy=False)


def _trajectory(path: Path, kind: Format) -> tuple[NDArray[np.float32], Topology | None]:
    """Positions in a file, and its own topology where it brings one."""
    try:
        with _quiet():
            return _read(path, kind)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # mdtraj raises many kinds for a damaged file
        reason = _line(error)
        with warnings.catch_warnings():
            # The frames of the traceback hold files that mdtraj has left open.
            warnings.simplefilter("ignore", ResourceWarning)
            error.__traceback__ = error.__context__ = error.__cause__ = None
    raise InputError(f"{path}: not readable as {kind.name}, damaged or truncated ({reason}); write it again")


def _read(path: Path, kind: Format) -> tuple[NDArray[np.float32], Topology | None]:
    import mdtraj
    from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile
    from mdtraj.formats.pdbx import load_pdbx

    if kind is XTC:
        with XTCTrajectoryFile(str(path)) as file:
            return np.asarray(file.read()[0], dtype=np.float32), None
    if kind is DCD:
        with DCDTrajectoryFile(str(path)) as file:
            x = np.asarray(file.read()[0], dtype=np.float32)
        _check_dcd(path, len(x))
        x *= np.float32(0.1)  # from Angstrom
        return x, None
    if kind is PDB:
        _check_models(path)
    load = {PDB.name: mdtraj.load_pdb, MMCIF.name: load_pdbx, HDF5.name: mdtraj.load_hdf5}[kind.name]
    frames = load(str(path))
    return np.asarray(frames.xyz, dtype=np.float32), from_mdtraj(frames.topology)


def _check_dcd(path: Path, read: int) -> None:
    """Compare with the number of frames in the header; the library reads those that are whole without a word."""
    with path.open("rb") as file:
        start = file.read(16)
    # The number follows the word, which follows a record length of 84 in four or eight bytes.
    place = start.find(b"CORD") + 4
    (announced,) = struct.unpack("<i" if start[0] == 84 else ">i", start[place : place + 4])
    if read < announced:
        raise InputError(f"{path}: truncated, {read} of {announced} frames are there; copy or write it again")


def _check_models(path: Path) -> None:
    begun = ended = 0
    with path.open(errors="replace") as file:
        for line in file:
            begun += line.startswith("MODEL ")
            ended += line.startswith("ENDMDL")
    if begun > ended:
        raise InputError(f"{path}: truncated in model {begun}, which has no ENDMDL; copy or write it again")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what C libraries print about a file away from the terminal and from pipes."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    sys.stderr.flush()
    libc.fflush(None)
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        libc.fflush(None)
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # HDF5 puts its reason behind a trace.
    return lines[-1] if lines else type(error).__name__


def _check(path: Path, positions: NDArray[np.float32], topology: Topology) -> None:
    if len(positions) == 0:
        raise InputError(f"{path}: no frames; give at least one")
    _check_count(path, positions, topology)
    finite = np.isfinite(positions).all(axis=(1, 2))
    if not finite.all():
        frame = int(np.flatnonzero(~finite)[0])
        raise InputError(
            f"{path}: coordinates of frame {frame} are not finite ({int((~finite).sum())} such frames of "
            f"{len(positions)}); remove them"
        )
    if len(topology.bonds):
        i, j = topology.bonds.T
        length = float(np.median(np.linalg.norm(positions[0, i] - positions[0, j], axis=-1)))
        if not BOND_RANGE[0] < length < BOND_RANGE[1]:
            raise InputError(
                f"{path}: median bond length {length:.3g} nm in frame 0; give coordinates in nm, atoms in "
                "the order of the topology, molecule not broken across a box"
            )


def _check_count(path: Path, positions: NDArray[np.float32], topology: Topology) -> None:
    if positions.shape[1] != topology.n_atoms:
        raise InputError(
            f"{path}: {positions.shape[1]} atoms, the topology has {topology.n_atoms}; "
            "give an ensemble of the same atoms"
        )
