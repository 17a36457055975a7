import math

import numpy as np
import pytest
import torch

from gibbsian.bench import averages, dynamics
from gibbsian.bench.rows import RowKey
from gibbsian.chem.library import built_in
from gibbsian.potentials import potential
from gibbsian.potentials.openmm_dynamics import OpenMMDynamics, Walk, fastest, forms

NAME = "ACE-ALA-NME"


def test_rows_are_rates_of_all_systems_and_averages_of_one() -> None:
    keys = dynamics.rows()
    assert [key.system for key in keys if key.row == "rate"] == [NAME, "AAA", "AAAAAA", "CLN025"]
    assert {(key.system, key.seed) for key in keys if key.row == "averages"} == {(NAME, s) for s in dynamics.SEEDS}


@pytest.mark.slow
def test_a_rate_stands_beside_openmm_on_one_core_and_on_all() -> None:
    budget = dynamics.Budget(rounds=1, seconds=0.02, ladders=2, start_steps=20)
    seen: list[float] = []
    row = dynamics.measure(
        RowKey("dynamics", NAME, "rate"),
        built_in(NAME),
        budget,
        cores=2,
        report=lambda done, total, **figures: seen.append(done),
    )
    assert seen == [1]
    who = ("one_core", "all_cores", "openmm_one_core", "openmm_all_cores", "ratio_one_core", "ratio_all_cores")
    assert tuple(row.metrics) == who
    assert all(m.value is not None and m.value > 0 for m in row.metrics.values())
    assert row.budget["walkers"] == 2 * len(row.budget["temperatures"])
    assert (row.budget["timestep"], row.budget["hydrogen_mass"]) == (0.002, 4.0)
    assert "platform" in row.budget["openmm"]


@pytest.mark.slow
def test_averages_have_differences_of_every_contender() -> None:
    budget = averages.Budget(
        walkers=16,
        exchange_ps=1.0,
        exchange_ladders=2,
        start_steps=50,
        ps=0.3,
        openmm_ps=0.2,
        settle_ps=0.1,
        sample_ps=0.05,
    )
    row = averages.measure(RowKey("dynamics", NAME, "averages", 0), built_in(NAME), budget)
    value = {name: metric.value for name, metric in row.metrics.items()}
    for who in ("1 fs", "0.5 fs", "2 fs", "OpenMM 1 fs"):
        assert -250 < value[f"{who}: potential energy"] < 0
        assert value[f"{who}: C-H length"] == pytest.approx(0.109, abs=0.002)
        basins = sum(value[f"{who}: ALA2 {basin}"] for basin in ("left", "alpha", "beta"))
        assert basins == pytest.approx(1.0)
    difference = value["2 fs: potential energy"] - value["1 fs: potential energy"]
    metric = row.metrics["2 fs - 1 fs: potential energy"]
    assert metric.value == pytest.approx(difference)
    assert value["2 fs - 1 fs in errors: potential energy"] == pytest.approx(metric.value / metric.error)
    assert value["OpenMM 1 fs - 1 fs in errors: largest"] < 8
    assert "Reference" in row.budget["openmm"]


def test_a_difference_that_walkers_share_is_seen_through_their_spread() -> None:
    rng = np.random.default_rng(0)
    start = 10 * rng.normal(size=(400, 1))
    noise = rng.normal(size=(2, 400, 1))
    metrics = averages.compare(("energy",), {"1 fs": start + noise[0], "2 fs": start + noise[1] + 0.5})
    found = metrics["2 fs - 1 fs: energy"]
    assert found.error == pytest.approx(math.sqrt(2 / 400), rel=0.1)
    assert abs(found.value - 0.5) < 4 * found.error
    assert metrics["1 fs: energy"].error == pytest.approx(0.5, rel=0.1)


def test_parts_of_the_energy_and_its_standard_deviation() -> None:
    system = built_in(NAME)
    observables = averages.Observables(system)
    rng = np.random.default_rng(0)
    x = system.positions + 0.003 * rng.normal(size=(60, system.n_atoms, 3))
    energy = potential(system).energy(torch.from_numpy(x)).numpy()
    values = observables(x, energy)
    column = observables.names.index("energy of bonds")
    i, j = system.parameters.bonds.atoms.T
    length, k = system.parameters.bonds.values.T
    bonds = 0.5 * k * (np.linalg.norm(x[:, i] - x[:, j], axis=-1) - length) ** 2
    assert values[:, column] == pytest.approx(bonds.sum(1))
    means = values.reshape(6, 10, -1).mean(1)
    assert observables.finished(means)[:, -1].mean() == pytest.approx(energy.std())


def test_openmm_walks_the_same_in_any_number_of_processes() -> None:
    system = built_in(NAME)
    masses = system.parameters.masses
    walk = Walk(300.0, 0.001, frames=2, every=3)
    form = forms(system, masses)[0]
    x = np.repeat(system.positions[None], 3, axis=0)
    alone = list(OpenMMDynamics(form).run(x, walk, seed=1))
    with OpenMMDynamics(form, 2) as dynamics_:
        together = list(dynamics_.run(x, walk, seed=1))
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.energy, b.energy)
    assert not np.array_equal(alone[0].positions, alone[1].positions)
    energy = potential(system).energy(torch.from_numpy(alone[0].positions)).numpy()
    assert alone[0].energy == pytest.approx(energy, rel=1e-6)


def test_the_fastest_form_is_one_of_those_on_offer() -> None:
    system = built_in("AAA")
    masses = system.parameters.masses
    best, rate = fastest(system, masses, Walk(310.0, 0.002, 1, 1), steps=4)
    assert best in forms(system, masses)
    assert rate > 0
