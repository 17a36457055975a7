import math

import numpy as np
import pytest
import torch

from gibbsian.dynamics.langevin import capped, repartition, run_langevin, start
from gibbsian.errors import InputError
from gibbsian.potentials.base import Integrator, LangevinState, RigidBonds
from gibbsian.testing.toys import GaussianWell
from gibbsian.units import kt


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.physics
@pytest.mark.parametrize("timestep", [0.002, 0.001])
def test_harmonic_wells_have_the_variance_of_their_temperature(timestep: float) -> None:
    well = GaussianWell(n_atoms=4, k=20_000.0)
    temperatures = torch.tensor([150.0, 300.0, 600.0, 1000.0], dtype=torch.float64)
    thermal = (kt(1.0) * temperatures).repeat_interleave(500)
    integrator = Integrator(torch.full((4,), 4.0), timestep=timestep, friction=20.0)
    state = start(torch.zeros(2000, 4, 3), well, integrator.masses, thermal, generator())
    squares = torch.zeros(2000, dtype=torch.float64)
    state = run_langevin(state, well, integrator, thermal, 500, generator(1))
    for seed in range(20):
        state = run_langevin(state, well, integrator, thermal, 50, generator(seed + 2))
        squares += state.x.double().square().mean((1, 2)) / 20
    variance = squares.reshape(4, 500).mean(1)
    # 6000 coordinates, about ten independent times each: 0.6 % standard error
    assert torch.allclose(variance, kt(1.0) * temperatures / well.k, rtol=0.025)


def test_velocities_follow_maxwell_boltzmann() -> None:
    masses = torch.tensor([1.0, 16.0])
    thermal = torch.full((20_000,), kt(300.0), dtype=torch.float64)
    v = start(torch.zeros(20_000, 2, 3), GaussianWell(2), masses, thermal, generator()).v
    kinetic = (masses[:, None] * v.square()).mean((0, 2))
    assert torch.allclose(kinetic, torch.full((2,), kt(300.0)), rtol=0.02)


def test_without_friction_energy_is_conserved() -> None:
    well = GaussianWell(n_atoms=1, k=1000.0)
    integrator = Integrator(torch.tensor([12.0], dtype=torch.float64), timestep=0.0005, friction=0.0)
    thermal = torch.full((1,), kt(300.0), dtype=torch.float64)
    state = start(torch.full((1, 1, 3), 0.05, dtype=torch.float64), well, integrator.masses, thermal, generator())
    before = state.energy + 6.0 * state.v.square().sum()
    after = run_langevin(state, well, integrator, thermal, 2000, generator())
    assert torch.allclose(after.energy + 6.0 * after.v.square().sum(), before, rtol=0.02)
    assert not torch.equal(after.x, state.x)


def test_input_state_is_untouched_and_steps_compose() -> None:
    well, integrator = GaussianWell(2), Integrator(torch.ones(2) * 12)
    thermal = torch.full((3,), kt(300.0), dtype=torch.float64)
    first = start(torch.rand(3, 2, 3), well, integrator.masses, thermal, generator())
    kept = {name: getattr(first, name).clone() for name in ("x", "v", "energy", "force")}
    noise = generator(5)
    state = first
    for _ in range(4):
        state = run_langevin(state, well, integrator, thermal, 1, noise)
    together = run_langevin(first, well, integrator, thermal, 4, generator(5))
    assert all(torch.equal(getattr(first, name), value) for name, value in kept.items())
    assert torch.equal(state.x, together.x)
    assert torch.equal(state.v, together.v)


def test_an_engine_that_runs_steps_itself_is_used() -> None:
    class Engine(GaussianWell):
        def run_steps(
            self,
            state: LangevinState,
            integrator: Integrator,
            kt: torch.Tensor,
            n_steps: int,
            generator: torch.Generator,
            force_cap: float = math.inf,
        ) -> LangevinState:
            return LangevinState(state.x + n_steps, state.v, state.energy, state.force)

    engine, integrator = Engine(1), Integrator(torch.ones(1))
    thermal = torch.ones(2, dtype=torch.float64)
    state = start(torch.zeros(2, 1, 3), engine, integrator.masses, thermal, generator())
    assert run_langevin(state, engine, integrator, thermal, 7, generator()).x.unique().tolist() == [7.0]


def test_rigid_bonds_need_an_engine_that_knows_them() -> None:
    rigid = RigidBonds(torch.tensor([[0, 1]]), torch.tensor([0.1]))
    well, integrator = GaussianWell(2), Integrator(torch.ones(2), rigid=rigid)
    thermal = torch.ones(1, dtype=torch.float64)
    state = start(torch.zeros(1, 2, 3), well, integrator.masses, thermal, generator())
    with pytest.raises(InputError, match="compiled engine"):
        run_langevin(state, well, integrator, thermal, 1, generator())


def test_capped_forces() -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [30.0, 40.0, 0.0], [math.inf, 0.0, 0.0], [math.nan, 1.0, 0.0]])
    assert torch.allclose(capped(vectors, 10.0), torch.tensor([[3.0, 4, 0], [6.0, 8, 0], [0.0, 0, 0], [0.0, 1, 0]]))


def test_repartition_conserves_mass_and_sets_hydrogens() -> None:
    masses = np.array([12.011, 1.008, 1.008, 1.008, 15.999, 1.008])
    elements, bonds = ("C", "H", "H", "H", "O", "H"), np.array([[0, 1], [0, 2], [0, 3], [0, 4], [4, 5]])
    new = repartition(masses, elements, bonds, 4.0)
    assert new.sum() == pytest.approx(masses.sum())
    assert new[[1, 2, 3, 5]].tolist() == [4.0] * 4
    assert new[0] == pytest.approx(12.011 - 3 * 2.992)
    assert masses[1] == 1.008
    with pytest.raises(InputError, match="hydrogen_mass"):
        repartition(masses, elements, bonds, 5.0)
