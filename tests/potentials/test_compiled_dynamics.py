"""Langevin dynamics inside the compiled engine."""

import math

import numpy as np
import openmm as mm
import pytest
import torch
from molecules import molecule, noisy

from gibbsian.chem.parameters import Parameters, extract
from gibbsian.dynamics.langevin import run_langevin, start
from gibbsian.kernels import instruction_sets
from gibbsian.potentials import CompiledPotential, TorchPotential
from gibbsian.potentials.base import Integrator, LangevinState, RigidBonds, TorsionBias
from gibbsian.units import kt

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")
THERMAL = kt(300.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alanine() -> tuple[Parameters, torch.Tensor]:
    system, x = molecule("ACE-ALA-NME")
    return extract(system), torch.from_numpy(x)


def free(n: int) -> Parameters:
    system = mm.System()
    for _ in range(n):
        system.addParticle(12.0)
    return extract(system)


def begin(engine: CompiledPotential, x: torch.Tensor, masses: torch.Tensor) -> tuple[LangevinState, torch.Tensor]:
    thermal = torch.full((len(x),), THERMAL, dtype=torch.float64)
    return start(x, engine, masses, thermal, generator(7)), thermal


def same(a: LangevinState, b: LangevinState) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_depend_on_the_seed_alone(dtype: torch.dtype) -> None:
    parameters, x = alanine()
    masses = torch.from_numpy(parameters.masses)
    one, three = (CompiledPotential(parameters, dtype, threads=n) for n in (1, 3))
    first, thermal = begin(one, x.to(dtype).repeat(50, 1, 1), masses)
    integrator = Integrator(masses, 0.001)
    whole = run_langevin(first, one, integrator, thermal, 20, generator(3))
    assert same(run_langevin(first, three, integrator, thermal, 20, generator(3)), whole)
    assert not same(run_langevin(first, one, integrator, thermal, 20, generator(4)), whole)
    # Which formula a pair takes depends on all lanes of its vector, so the last bits depend on the neighbours.
    few = LangevinState(**{name: value[:21] for name, value in vars(first).items()})
    part = run_langevin(few, three, integrator, thermal[:21], 20, generator(3))
    torch.testing.assert_close(part.x, whole.x[:21], rtol=0.0, atol=2e-5)


def test_without_friction_it_is_verlet() -> None:
    """The same steps in torch: nothing random is left when friction is zero."""
    parameters, x = alanine()
    masses = torch.from_numpy(parameters.masses)
    engine = CompiledPotential(parameters)
    first, thermal = begin(engine, x.repeat(3, 1, 1), masses)
    integrator = Integrator(masses, 0.001, friction=0.0)
    inside = run_langevin(first, engine, integrator, thermal, 30, generator())
    outside = run_langevin(first, TorchPotential(parameters), integrator, thermal, 30, generator())
    for name in vars(first):
        torch.testing.assert_close(getattr(inside, name), getattr(outside, name), rtol=1e-7, atol=1e-7)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of counters (4, n)."""
    word = counter.astype(np.uint64)
    low, high = key
    for _ in range(10):
        first, second = word[0] * 0xD2511F53, word[2] * 0xCD9E8D57
        mask = np.uint64(0xFFFFFFFF)
        word = np.stack([(second >> 32) ^ word[1] ^ low, second & mask, (first >> 32) ^ word[3] ^ high, first & mask])
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return word


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_random_numbers_are_those_of_philox(instruction_set: str) -> None:
    """With the authors' published answer, and with friction so high that a step leaves nothing but noise."""
    answer = philox(np.zeros((4, 1)), (0, 0))[:, 0]
    assert [f"{int(word):08x}" for word in answer] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    engine = CompiledPotential(free(5), instruction_set=instruction_set)
    state, thermal = begin(engine, torch.zeros(40, 5, 3, dtype=torch.float64), torch.full((5,), 12.0))
    integrator = Integrator(torch.full((5,), 12.0), 0.002, friction=1e5)
    v = run_langevin(state, engine, integrator, thermal, 3, generator(11)).v.flatten(1).numpy()
    seed = int(torch.randint(2**63 - 1, (), generator=generator(11)))
    step, walker, draw = np.full(160, 2), np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    words = philox(np.stack([step, 0 * step, walker, draw]), (seed % 2**32, seed >> 32))
    uniform = ((words >> np.uint64(1)).astype(np.float64) + 0.5) / 2**31
    size, turn = np.sqrt(-2 * np.log(uniform[::2])), 2 * np.pi * uniform[1::2]
    normal = np.stack([size[0] * np.cos(turn[0]), size[0] * np.sin(turn[0]), size[1] * np.cos(turn[1]),
                       size[1] * np.sin(turn[1])], 1).reshape(40, 16)  # fmt: skip
    np.testing.assert_allclose(v, math.sqrt(THERMAL / 12.0) * normal[:, :15], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_numbers_are_normal_and_independent(instruction_set: str, dtype: torch.dtype) -> None:
    """Free particles with such a friction that each step draws new velocities."""
    n, parameters = 4000, free(7)
    engine = CompiledPotential(parameters, dtype, instruction_set=instruction_set)
    integrator = Integrator(torch.full((7,), 12.0), 0.002, friction=1e5)
    state, thermal = begin(engine, torch.zeros(n, 7, 3, dtype=dtype), integrator.masses)
    steps = []
    for _ in range(2):
        state = run_langevin(state, engine, integrator, thermal, 1, generator(len(steps)))
        steps.append(state.v.double().flatten(1) / math.sqrt(THERMAL / 12.0))
    v = torch.stack(steps)
    samples = v.numel()
    assert abs(float(v.mean())) < 5 / math.sqrt(samples)
    assert abs(float(v.square().mean()) - 1) < 5 * math.sqrt(2 / samples)
    assert abs(float(v.pow(4).mean()) - 3) < 5 * math.sqrt(96 / samples)
    columns = torch.cat([v.flatten(0, 1), torch.cat([v[1], v[0]])], 1)  # components, and those of the other step
    correlation = torch.corrcoef(columns.T) - torch.eye(42)
    assert float(correlation[:21].abs().max()) < 6 / math.sqrt(n)
    lanes = v[0].reshape(-1, 16, 21)
    assert float(torch.corrcoef(lanes[:, :, 0].T).fill_diagonal_(0).abs().max()) < 6 / math.sqrt(n / 16)


def test_rigid_bonds_keep_their_lengths_and_temperature() -> None:
    parameters, x = alanine()
    masses = torch.from_numpy(parameters.masses)
    light = [row for row, pair in enumerate(parameters.bonds.atoms) if parameters.masses[pair].min() < 2]
    rigid = RigidBonds(
        torch.from_numpy(parameters.bonds.atoms[light]), torch.from_numpy(parameters.bonds.values[light, 0])
    )
    engine = CompiledPotential(parameters, torch.float32)
    state, thermal = begin(engine, x.float().repeat(256, 1, 1), masses)
    integrator = Integrator(masses, 0.002, 5.0, rigid)
    kinetic = 0.0
    for seed in range(20):
        state = run_langevin(state, engine, integrator, thermal, 100, generator(seed))
        d = state.x[:, rigid.atoms[:, 0]] - state.x[:, rigid.atoms[:, 1]]
        assert float((d.norm(dim=-1) / rigid.lengths - 1).abs().max()) < 1e-5
        if seed >= 10:
            kinetic += float((0.5 * masses[:, None] * state.v.double().square()).sum((1, 2)).mean()) / 10
    freedom = 3 * 22 - len(light)
    assert kinetic / (0.5 * freedom * THERMAL) == pytest.approx(1.0, abs=0.03)


def test_capped_forces_relax_overlaps() -> None:
    parameters, x = alanine()
    masses = torch.from_numpy(parameters.masses)
    engine = CompiledPotential(parameters, torch.float32)
    state, thermal = begin(engine, torch.from_numpy(noisy(x.numpy(), 20, 0.08)).float(), masses)
    integrator = Integrator(masses, 0.0005, 50.0)
    relaxed = run_langevin(state, engine, integrator, thermal, 4000, generator(), force_cap=2e4)
    assert float(state.energy.min()) > 1e4
    assert float(relaxed.energy.max()) < 500
    broken = LangevinState(state.x, state.v, state.energy, torch.full_like(state.force, math.inf))
    moved = run_langevin(broken, engine, integrator, thermal, 1, generator(), force_cap=2e4)
    assert torch.isfinite(moved.x).all()


@pytest.mark.physics
def test_biased_torsions_stay_at_their_centres() -> None:
    """Four free atoms: without another force the torsion's deviation has variance kT/k."""
    system = mm.System()
    bonds = mm.HarmonicBondForce()
    angles = mm.HarmonicAngleForce()
    for _ in range(4):
        system.addParticle(12.0)
    for i in range(3):
        bonds.addBond(i, i + 1, 0.15, 2e5)
    for i in range(2):
        angles.addAngle(i, i + 1, i + 2, 1.9, 2e3)
    system.addForce(bonds)
    system.addForce(angles)
    engine = CompiledPotential(extract(system))
    centres = torch.tensor([-3.1, -1.0, 0.3, 2.0], dtype=torch.float64).repeat_interleave(400)[:, None]
    k = torch.full_like(centres, 60.0)
    bias = TorsionBias(torch.tensor([[0, 1, 2, 3]]), centres, k)
    x = torch.tensor([[0.0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.35, 0.14, 0.05]], dtype=torch.float64)
    state, thermal = begin(engine, x.repeat(1600, 1, 1), torch.full((4,), 12.0))
    integrator = Integrator(torch.full((4,), 12.0), 0.001, 5.0, bias=bias)
    deviations = []
    for seed in range(30):
        state = run_langevin(state, engine, integrator, thermal, 200, generator(seed))
        if seed >= 10:
            a, b, c, d = state.x.numpy().transpose(1, 0, 2)
            first, second = np.cross(a - b, b - c), np.cross(d - c, b - c)
            sine = -((a - b) * second).sum(-1) * np.linalg.norm(b - c, axis=-1)
            difference = np.arctan2(sine, (first * second).sum(-1)) - centres[:, 0].numpy()
            deviations.append((difference + np.pi) % (2 * np.pi) - np.pi)
    spread = np.stack(deviations).reshape(20, 4, 400)
    assert np.abs(spread.mean((0, 2))).max() < 0.02
    assert (spread**2).mean((0, 2)) == pytest.approx(np.full(4, THERMAL / 60.0), rel=0.06)
    alone = engine.energy_and_force(state.x)[0]
    torch.testing.assert_close(alone, state.energy)
