import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gibbsian.chem.system import System
from gibbsian.dynamics.collect import load_simulation
from gibbsian.dynamics.exchange import ExchangeSettings, advance, begin, make_group
from gibbsian.dynamics.simulate import simulate
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import GibbsianError, InputError, StoppedError
from gibbsian.files import read_json, write_json
from gibbsian.potentials import potential as make_potential
from gibbsian.testing.toys import DoubleWell, toy_system

SHORT = ExchangeSettings(
    t_max=600.0,
    n_temperatures=3,
    ladders=6,
    groups=2,
    steps=400,
    equilibration=100,
    exchange_every=10,
    save_every=20,
    shard=5,
    start_steps=50,
    friction=5.0,
    seed=7,
)


def dimer(temperature: float = 300.0) -> System:
    return toy_system(np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]), temperature)


def same(a: Ensemble, b: Ensemble) -> bool:
    assert a.u is not None
    assert b.u is not None
    assert a.lineage is not None
    assert b.lineage is not None
    return (
        np.array_equal(a.positions, b.positions)
        and np.array_equal(a.log_w, b.log_w)
        and np.array_equal(a.u, b.u)
        and np.array_equal(a.lineage, b.lineage)
    )


@pytest.mark.physics
def test_exchange_finds_the_population_of_a_double_well() -> None:
    well = DoubleWell(height=18.0, tilt=3.0)
    settings = replace(
        SHORT,
        ladders=256,
        steps=12_000,
        equilibration=6000,
        start_steps=2000,
        exchange_every=20,
        save_every=40,
        shard=50,
        t_max=900.0,
    )
    data = simulate(dimer(), settings, potential=well)
    far = np.linalg.norm(data.positions[:, 0] - data.positions[:, 1], axis=-1) > well.centre
    weights = np.exp(data.log_w)
    per_ladder = [weights[i] @ far[i] / weights[i].sum() for i in (data.lineage == k for k in range(256))]
    error = np.std(per_ladder) / 16
    assert error < 0.02
    assert abs(weights @ far - well.population(300.0)) < 4 * error
    assert np.isclose(weights.sum(), 1.0)
    statistics = data.provenance["statistics"]
    assert all(0.2 < a < 0.95 for a in statistics["acceptance"])
    assert statistics["round_trips"] > 100
    assert well.calls == pytest.approx(256 * 3 * (2000 + 6000 + 12_000), rel=0.1)


def test_frames_are_walker_major_and_energies_belong_to_them(tmp_path: Path) -> None:
    well = DoubleWell()
    data = simulate(dimer(), SHORT, tmp_path, potential=well)
    assert len(data) == 6 * 3 * 20
    energy = well.energy(torch.from_numpy(data.positions)).double().numpy()
    assert data.u is not None
    assert np.allclose(data.u * 0.00831446261815324 * 300, energy, atol=1e-4)
    assert np.array_equal(data.lineage, np.repeat(np.arange(6), 60))
    shard = np.load(tmp_path / "group-001" / "positions-00003.npy")
    assert shard.shape == (9, 5, 2, 3)
    # last frame of the second walker of the second group
    assert np.array_equal(shard[1, -1], data.positions[(9 + 1) * 20 + 19])


class Stopper:
    """A report that stops the work at its n-th call."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, done: float, total: float, /, **figures: float | str) -> None:
        assert 0 < done <= total
        assert {"ns_per_day", "acceptance", "seconds_left", "resets"} <= set(figures)
        self.left -= 1
        if self.left == 0:
            raise StoppedError("stopped")


def test_a_stopped_simulation_continues_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = simulate(dimer(), SHORT, potential=DoubleWell())
    for n in (1, 2, 1):  # in equilibration, then twice later
        with pytest.raises(StoppedError):
            simulate(dimer(), SHORT, tmp_path, potential=DoubleWell(), report=Stopper(n))
    # a shard that was written just before a kill, without its checkpoint
    (tmp_path / "group-000" / "positions-00003.npy").write_bytes(b"half a shard")
    assert same(simulate(dimer(), SHORT, tmp_path, potential=DoubleWell()), undisturbed)
    assert same(load_simulation(tmp_path, dimer()), undisturbed)


def test_a_longer_simulation_extends_a_shorter_one(tmp_path: Path) -> None:
    simulate(dimer(), replace(SHORT, steps=200), tmp_path, potential=DoubleWell())
    longer = simulate(dimer(), SHORT, tmp_path, potential=DoubleWell())
    assert same(longer, simulate(dimer(), SHORT, potential=DoubleWell()))


def test_processes_of_their_own_change_nothing() -> None:
    system = System.from_sequence("ACE-GLY-NME", "amber14", "obc2")
    here = simulate(system, SHORT, potential=make_potential(system, dtype=torch.float32))
    assert same(simulate(system, SHORT), here)
    assert not same(simulate(system, replace(SHORT, seed=8)), here)


def test_a_dead_process_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System.from_sequence("ACE-GLY-NME", "amber14", "obc2")

    def kill(done: float, total: float, /, **figures: float | str) -> None:
        subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "-f", "crew"], check=True)

    with pytest.raises(GibbsianError, match="the same command continues"):
        simulate(system, SHORT, report=kill)


def test_one_temperature_is_plain_langevin_with_equal_weights() -> None:
    data = simulate(dimer(), replace(SHORT, n_temperatures=1), potential=DoubleWell())
    assert len(data) == 6 * 20
    assert np.ptp(data.log_w) < 1e-9


def test_another_simulation_in_the_folder_is_refused(tmp_path: Path) -> None:
    simulate(dimer(), SHORT, tmp_path, potential=DoubleWell())
    with pytest.raises(InputError, match="seed 7, not 8"):
        simulate(dimer(), replace(SHORT, seed=8), tmp_path, potential=DoubleWell())
    with pytest.raises(InputError, match="temperature"):
        simulate(dimer(310.0), SHORT, tmp_path, potential=DoubleWell())
    (tmp_path / "group-000" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged checkpoint"):
        simulate(dimer(), SHORT, tmp_path, potential=DoubleWell())


def test_a_walker_that_blows_up_is_put_back() -> None:
    settings = SHORT.resolved(dimer())
    group = make_group(dimer(), settings, 0, DoubleWell(), "cpu")
    state, _ = advance(group, begin(group, dimer(), 0, "cpu"), 2)
    state.motion.x[4] = torch.nan
    state.motion.v[7, 0] = 1e4
    state, _ = advance(group, state, 1)
    assert state.resets == 2
    state, frames = advance(group, state, 20)
    assert state.resets == 2
    assert torch.isfinite(frames.positions).all()
    assert torch.isfinite(state.motion.v).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"ladders": 0},
        {"shard": 0},
        {"timestep": -0.001},
        {"save_every": 15},
        {"groups": 7},
        {"temperatures": (400.0, 300.0)},
        {"seed": -1},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        replace(SHORT, **bad)


def test_defaults_are_valid_and_resolve_to_the_size_of_the_molecule() -> None:
    settings = ExchangeSettings().resolved(dimer())
    assert settings.shard == 10
    assert settings.temperatures is not None
    assert settings.temperatures[0] == 300.0
    assert settings.temperatures[-1] == pytest.approx(800.0)
    large = ExchangeSettings().resolved(toy_system(np.zeros((60, 3))))
    assert large.shard == 1
    assert len(large.temperatures or ()) > len(settings.temperatures)


def test_a_folder_from_before_a_setting_was_added_goes_on(tmp_path: Path) -> None:
    well = DoubleWell(height=18.0, tilt=3.0)
    first = simulate(dimer(), SHORT, tmp_path, well)
    manifest = read_json(tmp_path / "manifest.json")
    del manifest["settings"]["start_structure"]
    write_json(tmp_path / "manifest.json", manifest)
    assert same(simulate(dimer(), SHORT, tmp_path, well), first)
