"""Energies of a trajectory: right, resumable after any end, and said to be approximate where they are."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import gibbsian as gb
from conftest import TINY
from gibbsian.chem.library import built_in
from gibbsian.chem.system import System
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import write_trajectory
from gibbsian.errors import InputError, StoppedError
from gibbsian.potentials.restraints import Custom
from gibbsian.testing.reports import stop_at
from gibbsian.units import kt
from gibbsian.workflow import energies, importing
from gibbsian.workflow.annotating import annotate_trajectory
from gibbsian.workflow.energies import annotate
from gibbsian.workflow.run import open_run, perform, settings_of
from gibbsian.workflow.settings import read_settings
from gibbsian.workflow.stages import STAGES

CHOICES = {"forcefield": "amber99sbildn", "solvent": "amber99_obc"}


@pytest.fixture(scope="module")
def system() -> System:
    return built_in("ACE-ALA-NME")


@pytest.fixture(scope="module")
def frames(system: System) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(2300, system.n_atoms, 3))
    return (system.positions + 0.004 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def expected(system: System, frames: np.ndarray) -> np.ndarray:
    energy = gb.potential(system, engine="torch").energy(torch.from_numpy(frames).double())
    return energy.numpy() / kt(300.0)


def test_a_trajectory_becomes_an_ensemble(
    tmp_path: Path, system: System, frames: np.ndarray, expected: np.ndarray
) -> None:
    top, dcd, out = tmp_path / "top.pdb", tmp_path / "x.dcd", tmp_path / "out"
    write_trajectory(top, system.topology, frames[:1])
    write_trajectory(dcd, system.topology, frames)
    with pytest.raises(StoppedError):
        list(annotate_trajectory(dcd, str(top), out, CHOICES, "torch", stop_at(2000)))
    done = {p.name: p.stat().st_mtime_ns for p in (out / "parts").glob("*.npy")}
    assert sorted(done) == ["000000000.npy", "000001000.npy"]
    with pytest.raises(InputError, match="other frames or another force field"):
        list(annotate_trajectory(dcd, str(top), out, CHOICES | {"temperature": 310.0}, "torch"))
    seen = []

    def note(done: float, total: float, /, **figures: float | str) -> None:
        seen.append((done, total))
        if done == 2000:
            kept = {p.name: p.stat().st_mtime_ns for p in (out / "parts").glob("*.npy")}
            assert kept == done_before

    done_before = done
    said = list(annotate_trajectory(dcd, str(top), out, CHOICES, "torch", note))
    assert seen == [(1000, 2300), (2000, 2300), (2300, 2300)]
    assert not any("rounded" in line for line in said)
    result = Ensemble.load(out)
    assert result.u is not None
    # DCD keeps float32 in Angstrom: 1e-8 nm of rounding.
    np.testing.assert_allclose(result.u, expected, atol=2e-3)
    assert not (out / "parts").exists()
    again = list(annotate_trajectory(dcd, str(top), out, CHOICES, "torch", stop_at(0)))
    assert "already" in again[-1]
    with pytest.raises(InputError, match="holds another ensemble"):
        list(annotate_trajectory(dcd, str(top), out, CHOICES, "openmm"))


def test_killed_and_continued(tmp_path: Path, system: System, frames: np.ndarray, expected: np.ndarray) -> None:
    many = np.tile(frames, (40, 1, 1))
    np.save(tmp_path / "x.npy", many)
    start = [sys.executable, "-c", "from gibbsian.cli.main import main; main()"]
    command = [*start, *"annotate x.npy --topology ACE-ALA-NME -o out --engine torch".split()]
    parts = tmp_path / "out" / "parts"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            limit = time.monotonic() + 120
            while len(list(parts.glob("*.npy"))) < 3 and time.monotonic() < limit:
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    done = {p.name for p in parts.glob("[0-9]*.npy")}
    assert 3 <= len(done) < 92
    written = []
    real = energies.write_array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(energies, "write_array", lambda path, array: (written.append(path.name), real(path, array)))
        u = annotate(system, many, parts, "torch")
    assert not done & set(written)
    assert len(done) + len(written) == 92
    np.testing.assert_allclose(u, np.tile(expected, 40), rtol=1e-9)


def test_one_folder_is_for_one_command(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    def nested(done: float, total: float, /, **figures: float | str) -> None:
        annotate(system, frames[:5], tmp_path / "parts", "torch")

    with pytest.raises(InputError, match="another run is writing here"):
        annotate(system, frames[:5], tmp_path / "parts", "torch", nested)


def test_an_error_in_the_background_is_not_lost(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="coordinates"):
        annotate(system, frames[:5, 1:], tmp_path / "parts", "torch")


def test_non_finite_energies_are_counted(tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def logarithm(x: torch.Tensor) -> torch.Tensor:
        return torch.log(x[:, 0, 0] - 50.0)

    monkeypatch.setattr(energies, "potential", lambda system, engine: Custom(system.n_atoms, logarithm))
    x = frames[:40].copy()
    x[1:7] += 100.0
    x[8:] += 100.0
    np.save(tmp_path / "x.npy", x)
    said = list(annotate_trajectory(tmp_path / "x.npy", "ACE-ALA-NME", tmp_path / "out", {}))
    assert "2 frames have no finite energy" in said
    u = Ensemble.load(tmp_path / "out").u
    assert u is not None
    assert np.flatnonzero(np.isposinf(u)).tolist() == [0, 7]


@pytest.mark.parametrize(
    ("ending", "lossy"), [("xtc", 1e-3), ("pdb", 1e-4), ("cif", 1e-4), ("dcd", None), ("h5", None)]
)
def test_rounding_is_said_once_in_annotate_and_import(
    tmp_path: Path, system: System, frames: np.ndarray, ending: str, lossy: float | None
) -> None:
    path = tmp_path / f"x.{ending}"
    write_trajectory(path, system.topology, frames[:20])
    said = list(annotate_trajectory(path, "ACE-ALA-NME", tmp_path / "out", {}, "torch"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    folder = tmp_path / "run"
    with open_run(read_settings(tmp_path / "tiny.yaml"), folder, "tiny.yaml") as run:
        perform(run, STAGES[:1])
    with open_run(settings_of(folder), folder, "run.yaml") as run, pytest.MonkeyPatch.context() as patch:
        # Its energies are known.
        patch.setattr(importing, "annotate", None)
        imported = list(importing.import_trajectory(run, tmp_path / "out"))
    for lines in (said, imported):
        warnings = [line for line in lines if "serve no weights" in line]
        assert len(warnings) == (lossy is not None)
        assert all(f"{lossy:g} nm" in line for line in warnings)
    mine, kept = Ensemble.load(tmp_path / "out"), Ensemble.load(folder / "data")
    assert np.array_equal(mine.u, kept.u)


def test_import_continues_where_it_was_stopped(
    tmp_path: Path, system: System, frames: np.ndarray, expected: np.ndarray
) -> None:
    np.save(tmp_path / "x.npy", frames)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    folder = tmp_path / "run"
    with open_run(read_settings(tmp_path / "tiny.yaml"), folder, "tiny.yaml") as run, pytest.raises(StoppedError):
        list(importing.import_trajectory(run, tmp_path / "x.npy", report=stop_at(1000)))
    assert (folder / "annotation" / "000000000.npy").exists()
    with open_run(settings_of(folder), folder, "run.yaml") as run:
        list(importing.import_trajectory(run, tmp_path / "x.npy"))
    assert not (folder / "annotation").exists()
    u = Ensemble.load(folder / "data").u
    assert u is not None
    np.testing.assert_allclose(u, expected, rtol=1e-6)


def test_which_molecule(tmp_path: Path, system: System, frames: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", frames[:20])
    for topology, match in ((None, "give --topology"), ("AAA", "22 atoms, the topology has 33")):
        with pytest.raises(InputError, match=match):
            list(annotate_trajectory(tmp_path / "x.npy", topology, tmp_path / "out", {}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", ["dcd", "xtc", "pdb", "cif", "h5"])
def test_trajectories_of_openmm(tmp_path: Path, ending: str) -> None:
    """What OpenMM's own reporters write, of a molecule that OpenMM built, has the energies that OpenMM has."""
    import openmm
    from mdtraj.reporters import HDF5Reporter
    from openmm import app

    system = System.from_sequence("ACE-LYS-NME", forcefield="amber14", solvent="obc1")
    write_trajectory(tmp_path / "built.pdb", system.topology, system.positions[None].astype(np.float32))
    built = app.PDBFile(str(tmp_path / "built.pdb"))
    field = app.ForceField("amber14-all.xml", "implicit/obc1.xml")
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatform("Reference")
    simulation = app.Simulation(built.topology, field.createSystem(built.topology), integrator, platform)
    simulation.context.setPositions(built.positions)
    reporters = {
        "dcd": app.DCDReporter,
        "xtc": app.XTCReporter,
        "pdb": app.PDBReporter,
        "cif": app.PDBxReporter,
        "h5": HDF5Reporter,
    }
    path = tmp_path / f"x.{ending}"
    reporter = reporters[ending](str(path), 20)
    simulation.reporters.append(reporter)
    energy = []
    for _ in range(5):
        simulation.step(20)
        energy.append(simulation.context.getState(getEnergy=True).getPotentialEnergy()._value)
    simulation.reporters.clear()
    if hasattr(reporter, "close"):
        reporter.close()
    del reporter, simulation  # which closes the files of the others
    list(
        annotate_trajectory(
            path, str(tmp_path / "built.pdb"), tmp_path / "out", {"forcefield": "amber14", "solvent": "obc1"}
        )
    )
    found = Ensemble.load(tmp_path / "out")
    assert found.u is not None
    assert found.provenance["relabelled"] == 0
    tolerance = {"xtc": 5.0, "pdb": 0.5, "cif": 0.1, "dcd": 0.001, "h5": 0.001}[ending]
    np.testing.assert_allclose(found.u, np.array(energy) / kt(300.0), atol=tolerance)
