"""Five formats, there and back, and what is said about files that are not whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gibbsian.chem.library import resolve
from gibbsian.chem.system import System
from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import write_trajectory
from gibbsian.ensemble.formats import FORMATS, rounding_of, rounding_warning
from gibbsian.ensemble.readers import match_atoms, read_ensemble, read_frames
from gibbsian.errors import InputError
from gibbsian.workflow.converting import convert

ENDINGS = ("pdb", "cif", "xtc", "dcd", "h5")
N = 23


@pytest.fixture(scope="module")
def system() -> System:
    """Caps, a two-hydrogen carbon of each kind, a ring, a charged tail, a protonation variant."""
    return resolve("ACE-GLY-HIE-LYS-NME")


@pytest.fixture(scope="module")
def frames(system: System) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(N, system.n_atoms, 3))
    return (system.positions + 0.003 * noise).astype(np.float32)


def half_step(ending: str) -> float:
    """Largest error of one coordinate in nm: half the rounding, or that of float32 in Angstrom."""
    return 0.501 * (rounding_of(f"x.{ending}") or 1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_there_and_back_to_the_precision_of_the_format(
    tmp_path: Path, system: System, frames: np.ndarray, ending: str
) -> None:
    path = tmp_path / f"x.{ending}"
    # In pieces of uneven size, as a generator.
    assert write_trajectory(path, system.topology, (frames[a:b] for a, b in ((0, 7), (7, 8), (8, N)))) == N
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    read = read_frames(path, system.topology)
    assert read.positions.shape == frames.shape
    assert np.abs(read.positions - frames).max() <= half_step(ending)
    assert read.relabelled == 0
    assert read.rounding == rounding_of(path)
    assert (rounding_warning(path.name, read.rounding) is None) == (ending in ("dcd", "h5"))


@pytest.mark.parametrize("ending", ["pdb", "cif", "h5"])
def test_names_and_bonds_come_back(tmp_path: Path, system: System, frames: np.ndarray, ending: str) -> None:
    path = tmp_path / f"x.{ending.upper()}"
    write_trajectory(path, system.topology, frames[:2])
    read = read_frames(path)
    assert read.topology.atom_names == system.topology.atom_names
    assert read.topology.elements == system.topology.elements
    assert np.array_equal(read.topology.bonds, system.topology.bonds)


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_programs_read_what_is_written(tmp_path: Path, system: System, frames: np.ndarray, ending: str) -> None:
    import mdtraj

    write_trajectory(tmp_path / "top.pdb", system.topology, frames[:1])
    path = tmp_path / f"x.{ending}"
    write_trajectory(path, system.topology, frames)
    top = {"top": str(tmp_path / "top.pdb")} if ending in ("xtc", "dcd") else {}
    loaded = mdtraj.load(str(path), **top)
    assert loaded.n_frames == N
    assert loaded.unitcell_lengths is None
    assert np.abs(loaded.xyz - frames).max() <= half_step(ending)


def test_openmm_reads_what_is_written(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    from openmm import app, unit

    for ending, reader in (("pdb", app.PDBFile), ("cif", app.PDBxFile)):
        path = tmp_path / f"x.{ending}"
        write_trajectory(path, system.topology, frames)
        found = reader(str(path))
        assert found.getNumFrames() == N
        last = found.getPositions(asNumpy=True, frame=N - 1).value_in_unit(unit.nanometer)
        assert np.abs(last - frames[-1]).max() <= half_step(ending)


def shuffled(topology: Topology) -> tuple[Topology, np.ndarray]:
    """The same molecule with the atoms of each residue in another order, as other programs have it."""
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(topology.atoms_of(r)) for r in range(topology.n_residues)])
    place = np.argsort(order)
    bonds = np.sort(place[topology.bonds], axis=1)
    return (
        replace(
            topology,
            atom_names=tuple(topology.atom_names[i] for i in order),
            elements=tuple(topology.elements[i] for i in order),
            residue_index=topology.residue_index[order],
            bonds=bonds[np.lexsort(bonds.T[::-1])],
        ),
        order,
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_atoms_come_in_the_order_of_the_molecule(
    tmp_path: Path, system: System, frames: np.ndarray, ending: str
) -> None:
    other, order = shuffled(system.topology)
    path, names = tmp_path / f"x.{ending}", tmp_path / "names.pdb"
    write_trajectory(path, other, frames[:, order])
    write_trajectory(names, other, frames[:1, order])
    read = read_frames(path, system.topology, names=names)
    assert np.abs(read.positions - frames).max() <= half_step(ending)
    other_names = replace(other, atom_names=tuple(f"Q{i}" for i in range(other.n_atoms)))
    with pytest.raises(InputError, match="put the atoms in the order"):
        match_atoms("x", other_names, system.topology)


@pytest.mark.parametrize("ending", ENDINGS)
def test_hydrogens_get_their_labels(tmp_path: Path, system: System, frames: np.ndarray, ending: str) -> None:
    swapped = frames.copy()
    pair = [system.topology.find(1, "HA2"), system.topology.find(1, "HA3")]
    swapped[5:9, pair] = swapped[5:9, pair[::-1]]
    path = tmp_path / f"x.{ending}"
    write_trajectory(path, system.topology, swapped)
    read = read_ensemble(path, topology=system.topology, temperature=300.0)
    assert np.abs(read.positions - frames).max() <= half_step(ending)
    assert read.provenance["relabelled"] == 4


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_that_are_not_whole(
    tmp_path: Path, system: System, frames: np.ndarray, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"x.{ending}"
    write_trajectory(path, system.topology, frames)
    content = path.read_bytes()

    def refused(match: str, topology: Topology = system.topology) -> None:
        with pytest.raises(InputError, match=match) as caught:
            read_frames(path, topology)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)

    for fraction in (0.3, 0.613, 0.97):
        path.write_bytes(content[: int(fraction * len(content))])
        refused("truncated")
    path.write_bytes(b"")
    refused("empty file")
    path.write_bytes(b"nonsense\n" * 100)
    refused("not readable|no frames|no models|atoms")
    path.write_bytes(content)
    refused("atoms, the", resolve("ACE-ALA-NME").topology)
    assert len(read_frames(path, system.topology).positions) == N
    # The libraries' own chatter would end up in somebody's pipe.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("written_on", ["<", ">"])
def test_dcd_of_either_byte_order(tmp_path: Path, system: System, frames: np.ndarray, written_on: str) -> None:
    """The header announces more frames than there are, as after a full disk."""
    path = tmp_path / "x.dcd"
    write_trajectory(path, system.topology, frames)
    words = np.frombuffer(path.read_bytes(), dtype="<u4").copy()
    # All words of a DCD file are numbers but the tag and the titles, which nobody reads.
    tag = words[1]
    swapped = words.astype(f"{written_on}u4")
    swapped[1] = tag if written_on == "<" else np.uint32(tag).byteswap()
    path.write_bytes(swapped.tobytes())
    assert np.abs(read_frames(path, system.topology).positions - frames).max() < 1e-6
    swapped[2] += 1
    path.write_bytes(swapped.tobytes())
    with pytest.raises(InputError, match=f"truncated, {N} of {N + 1} frames"):
        read_frames(path, system.topology)


def test_what_cannot_be_written(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    topology = system.topology
    broken = frames.copy()
    broken[4, 2, 1] = np.nan
    for ending in ENDINGS:
        path = tmp_path / f"x.{ending}"
        path.write_text("old")
        with pytest.raises(InputError, match="frame 4"):
            write_trajectory(path, topology, broken)
        with pytest.raises(InputError, match="no frames"):
            write_trajectory(path, topology, frames[:0])
        with pytest.raises(InputError, match="shape"):
            write_trajectory(path, topology, frames[:, 1:])
        assert path.read_text() == "old"
        with pytest.raises(InputError, match="cannot write"):
            write_trajectory(tmp_path / "nowhere" / f"x.{ending}", topology, frames)
    with pytest.raises(InputError, match="cannot write"):
        write_trajectory(tmp_path / "far.pdb", topology, frames + 100)
    with pytest.raises(InputError, match=r"the trajectory formats are \.pdb, \.cif, \.xtc, \.dcd, \.h5"):
        write_trajectory(tmp_path / "x.gro", topology, frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"x.{ending}" for ending in ENDINGS)


def test_every_ending_is_one_format() -> None:
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(set(suffixes)) == len(suffixes)


def test_convert(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    log_w = np.full(N, -np.inf)
    log_w[3] = 0.0
    Ensemble(frames, log_w, system.topology, 300.0).save(tmp_path / "weighted")
    said = list(convert(tmp_path / "weighted", tmp_path / "all.h5"))
    assert any("has no weights" in line for line in said)
    assert np.array_equal(read_frames(tmp_path / "all.h5").positions, frames)
    said = list(convert(tmp_path / "weighted", tmp_path / "drawn.pdb", n=5))
    assert not any("has no weights" in line for line in said)
    assert any("compute no weights" in line for line in said)
    drawn = read_frames(tmp_path / "drawn.pdb", system.topology).positions
    assert np.abs(drawn - frames[3]).max() < 1e-4
    list(convert(tmp_path / "all.h5", tmp_path / "all.dcd"))
    said = list(convert(tmp_path / "all.dcd", tmp_path / "all.cif", topology=tmp_path / "drawn.pdb"))
    assert said[0] == f"{N} frames in {tmp_path / 'all.cif'}"
    with pytest.raises(InputError, match="carry no topology"):
        list(convert(tmp_path / "all.dcd", tmp_path / "x.xtc"))
