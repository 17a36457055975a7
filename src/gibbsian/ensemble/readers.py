"""Anyone's ensemble: our own folders, `.npy` arrays, and trajectories that mdtraj reads.

Readers neither relabel hydrogens nor compute energies: whoever needs energies does both, with a System at hand.
"""

from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import from_mdtraj
from gibbsian.ensemble.store import MANIFEST, load
from gibbsian.errors import InputError

SELF_CONTAINED = (".pdb", ".h5")
"""Formats that bring their own topology."""
TRAJECTORIES = (".xtc", ".dcd", *SELF_CONTAINED)
BOND_RANGE = (0.05, 0.25)
"""Sensible median bond length in nm; Angstrom coordinates give ten times as much."""


def read_ensemble(
    path: Path | str,
    *,
    topology: Topology | Path | str | None = None,
    temperature: float | None = None,
    log_w: NDArray[np.float64] | None = None,
) -> Ensemble:
    """Read an ensemble from disk.

    Parameters
    ----------
    path
        Folder written by `Ensemble.save`; or ``.npy`` positions (n, n_atoms, 3) in nm; or ``.xtc``,
        ``.dcd``, ``.pdb``, ``.h5``.
    topology
        What the frames must be conformations of: a Topology, or a file that mdtraj reads (PDB). Needed for
        formats that bring none. Atoms must come in its order.
    temperature
        K; needed for everything but our own folders, where it must agree.
    log_w
        (n,) log weights; None for equal weights (or those in our own folder).

    Raises
    ------
    InputError
        For a missing, empty or unreadable file, another molecule, another temperature, coordinates that are
        NaN or not in nm.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give an ensemble folder, .npy or trajectory file")
    expected = _topology(topology)
    if path.is_dir():
        return _own(path, expected, temperature)
    if temperature is None:
        raise InputError(f"{path}: its temperature is unknown; give the temperature in K")
    positions, own = _frames(path, expected)
    found = own if expected is None else expected
    if found is None:
        raise InputError(f"{path}: {path.suffix} files carry no topology; give a PDB file of the same atoms")
    if expected is not None and own is not None:
        _same_atoms(path, expected, own)
    _check(path, positions, found)
    weights = np.zeros(len(positions)) if log_w is None else np.asarray(log_w, dtype=np.float64)
    return Ensemble(
        positions=positions,
        log_w=weights,
        topology=found,
        temperature=temperature,
        # Frames of a trajectory are correlated: one lineage makes error bars come from blocks.
        lineage=np.zeros(len(positions), dtype=np.int64),
        provenance={"source": path.name},
    )


def _topology(topology: Topology | Path | str | None) -> Topology | None:
    if topology is None or isinstance(topology, Topology):
        return topology
    import mdtraj

    if not Path(topology).is_file():
        raise InputError(f"{topology}: no such topology file; give a PDB file of the molecule")
    try:
        return from_mdtraj(mdtraj.load(str(topology)).topology)
    except Exception as error:  # mdtraj raises many kinds for a damaged file
        raise InputError(f"{topology}: not readable as a topology ({_line(error)}); give a PDB file") from error


def _own(folder: Path, expected: Topology | None, temperature: float | None) -> Ensemble:
    if not (folder / MANIFEST).exists():
        raise InputError(f"{folder}: not an ensemble folder (no {MANIFEST}); give one, or a trajectory file")
    ensemble = load(folder)
    if expected is not None:
        _same_atoms(folder, expected, ensemble.topology)
    if temperature is not None and abs(temperature - ensemble.temperature) > 1e-6:
        raise InputError(
            f"{folder}: made at {ensemble.temperature:g} K, not {temperature:g} K; reweight it or ask for its own"
        )
    return ensemble


def _frames(path: Path, expected: Topology | None) -> tuple[NDArray[np.float32], Topology | None]:
    """Positions in a file, and its own topology where it brings one."""
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file; write it again")
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path}: not readable as .npy ({_line(error)}); save it with numpy.save") from error
        if array.ndim != 3 or array.shape[-1] != 3 or not np.issubdtype(array.dtype, np.floating):
            raise InputError(f"{path}: {array.dtype} array of shape {array.shape}; give floats (n, n_atoms, 3) in nm")
        return array.astype(np.float32), None
    if path.suffix not in TRAJECTORIES:
        raise InputError(f"{path}: unknown ending {path.suffix!r}; use a folder, .npy, {', '.join(TRAJECTORIES)}")
    return _trajectory(path, expected)


def _trajectory(path: Path, expected: Topology | None) -> tuple[NDArray[np.float32], Topology | None]:
    import mdtraj
    from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile

    if path.suffix == ".h5":
        _need("tables", path)
    try:
        if path.suffix in SELF_CONTAINED:
            frames = mdtraj.load(str(path))
            return np.asarray(frames.xyz, dtype=np.float32), from_mdtraj(frames.topology)
        if path.suffix == ".xtc":
            with XTCTrajectoryFile(str(path)) as file:
                return np.asarray(file.read()[0], dtype=np.float32), None
        with DCDTrajectoryFile(str(path)) as file:
            return (np.asarray(file.read()[0]) * 0.1).astype(np.float32), None  # from Angstrom
    except Exception as error:  # mdtraj raises many kinds for a damaged file
        raise InputError(f"{path}: not readable as {path.suffix} ({_line(error)}); write it again") from error


def _need(package: str, path: Path) -> None:
    try:
        import_module(package)
    except ImportError as error:
        raise InputError(f"{path}: reading it needs the package {package}; install it or convert the file") from error


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _same_atoms(path: Path, expected: Topology, found: Topology) -> None:
    if found.n_atoms != expected.n_atoms:
        raise InputError(
            f"{path}: {found.n_atoms} atoms, the molecule has {expected.n_atoms}; give an ensemble of the same atoms"
        )
    for i, (a, b) in enumerate(zip(expected.elements, found.elements, strict=True)):
        if a != b:
            raise InputError(
                f"{path}: atom {i + 1} is {b} ({found.atom_names[i]}), expected {a} "
                f"({expected.atom_names[i]}); put the atoms in the order of the molecule"
            )


def _check(path: Path, positions: NDArray[np.float32], topology: Topology) -> None:
    if len(positions) == 0:
        raise InputError(f"{path}: no frames; give at least one")
    if positions.shape[1] != topology.n_atoms:
        raise InputError(
            f"{path}: {positions.shape[1]} atoms, the topology has {topology.n_atoms}; "
            "give an ensemble of the same atoms"
        )
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
