from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import gibbsian as gb
from conftest import TINY
from gibbsian.chem.library import built_in
from gibbsian.errors import InputError
from gibbsian.workflow.describe import stage_costs
from gibbsian.workflow.importing import import_trajectory
from gibbsian.workflow.run import open_run, perform, settings_of
from gibbsian.workflow.scoring import score
from gibbsian.workflow.settings import read_settings
from gibbsian.workflow.stages import STAGES, load_data


@pytest.fixture
def frames() -> np.ndarray:
    """Frames around the built structure, some with two hydrogens of a methyl group swapped."""
    system = built_in("ACE-ALA-NME")
    generator = np.random.default_rng(0)
    x = system.positions + 0.004 * generator.normal(size=(400, system.n_atoms, 3))
    methyl = [system.topology.find(0, f"H{k}") for k in (1, 2)]
    assert None not in methyl
    x[:100, methyl] = x[:100, methyl[::-1]]
    return x.astype(np.float32)


def prepared(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    with open_run(read_settings(tmp_path / "tiny.yaml"), tmp_path / "run", "tiny.yaml") as run:
        perform(run, STAGES[:1])
    return tmp_path / "run"


def test_an_imported_trajectory_is_relabelled_annotated_and_trained_on(tmp_path: Path, frames: np.ndarray) -> None:
    folder = prepared(tmp_path)
    np.save(tmp_path / "frames.npy", frames)
    with open_run(settings_of(folder), folder, "run.yaml") as run:
        said = list(import_trajectory(run, tmp_path / "frames.npy"))
        data = load_data(run)
        assert any("relabelled in 100 frames" in line for line in said)
        energy = gb.potential(run.system).energy(torch.from_numpy(data.positions).double()).numpy()
        assert data.u is not None
        np.testing.assert_allclose(data.u * 300.0 * 0.00831446261815324, energy, rtol=1e-6)
        np.testing.assert_array_equal(data.positions[100:], frames[100:])
        perform(run, STAGES[:3])
        assert (folder / "model" / "flow.safetensors").exists()
        assert stage_costs(run) is None, "nobody knows what given data cost"
        with pytest.raises(InputError, match="has data already"):
            list(import_trajectory(run, tmp_path / "frames.npy"))


def test_broken_coordinates_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    folder = prepared(tmp_path)
    frames[7, 3, 1] = np.nan
    np.save(tmp_path / "frames.npy", frames)
    with open_run(settings_of(folder), folder, "run.yaml") as run, pytest.raises(InputError, match="frame 7"):
        list(import_trajectory(run, tmp_path / "frames.npy"))


def test_an_ensemble_scored_against_itself_is_at_its_floor(tmp_path: Path) -> None:
    system = built_in("ACE-ALA-NME")
    x = system.positions + 0.004 * np.random.default_rng(1).normal(size=(2000, system.n_atoms, 3))
    half = [
        gb.Ensemble(part.astype(np.float32), np.zeros(1000), system.topology, 300.0) for part in (x[:1000], x[1000:])
    ]
    half[0].save(tmp_path / "mine")
    half[1].save(tmp_path / "reference")
    results = score(tmp_path / "mine", tmp_path / "reference")
    distances = {row["name"]: row for row in results["distances"]}
    assert 0.3 < distances["t_w2"]["value"] / distances["t_w2"]["floor"] < 2.0
    assert results["basins"][0]["reference"] is not None or results["basins"][0]["free_energy"]["value"] is None
