"""Restraints keep the contract, are what they say, and sum with every engine."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.residues import chiral_centres, phi_atoms, psi_atoms
from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.minimise import minimise
from gibbsian.dynamics.simulate import simulate
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import InputError
from gibbsian.potentials import ENGINES, Potential, potential
from gibbsian.potentials.restraints import Chirality, Custom, FlatBottom, Sum, Umbrella
from gibbsian.testing.potential import check_potential
from gibbsian.units import kt


@pytest.fixture(scope="module")
def system() -> System:
    return System.from_sequence("ACE-ILE-NME", forcefield="amber99sbildn", solvent="amber99_obc")


@pytest.fixture(scope="module")
def x(system: System) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, system.n_atoms, 3, generator=generator, dtype=torch.float64)
    return torch.from_numpy(system.positions) + 0.01 * noise


def torsion(system: System) -> tuple[int, int, int, int]:
    atoms = phi_atoms(system.topology, 1)
    assert atoms is not None
    return atoms


def radius(x: Tensor) -> Tensor:
    """Spring on the radius of gyration."""
    return 500.0 * ((x - x.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt() - 0.2).square()


def all_of(system: System) -> dict[str, Potential]:
    n, phi = system.n_atoms, torsion(system)
    return {
        "torsion": Umbrella(n, phi, 1.0, 200.0),
        "distance": Umbrella(n, (0, n - 1), 0.4, 1000.0),
        "too far": FlatBottom(n, (0, n - 1), 0.3, 1000.0),
        "too near": FlatBottom(n, (0, n - 1), 3.0, 1000.0, lower=2.0),
        "inside": FlatBottom(n, (0, n - 1), 3.0, 1000.0, lower=0.1),
        "chirality": Chirality(n, chiral_centres(system.topology), volume=0.9),
        "custom": Custom(n, radius),
        "sum": Sum([potential(system, engine="torch"), Umbrella(n, phi, 1.0, 200.0), Custom(n, radius)]),
    }


@pytest.mark.parametrize("name", ["torsion", "distance", "too far", "too near", "inside", "chirality", "custom", "sum"])
def test_contract(system: System, x: Tensor, name: str) -> None:
    one = all_of(system)[name]
    assert isinstance(one, Potential)
    check_potential(one, x)
    energy, force = one.energy_and_force(x.float())
    assert (energy.dtype, force.dtype) == (torch.float64, torch.float32)
    reference = one.energy_and_force(x)[0]
    assert torch.allclose(energy, reference, rtol=1e-4, atol=1e-2)


def test_energies_are_those_of_the_formulas(system: System, x: Tensor) -> None:
    n, phi = system.n_atoms, torsion(system)
    angle = dihedral(x.numpy(), np.array([phi]))[:, 0]
    for centre in (1.0, 3.0, -3.0, 9.0):
        away = np.angle(np.exp(1j * (angle - centre)))
        energy = Umbrella(n, phi, centre, 200.0).energy(x)
        np.testing.assert_allclose(energy.numpy(), 100.0 * away**2, rtol=1e-10)
        assert float(energy.max()) <= 100.0 * math.pi**2
    length = (x[:, 0] - x[:, n - 1]).norm(dim=-1)
    assert torch.allclose(Umbrella(n, (0, n - 1), 0.4, 1000.0).energy(x), 500.0 * (length - 0.4).square())
    edge = float(length.median())
    flat = FlatBottom(n, (0, n - 1), edge, 1000.0).energy(x)
    assert torch.allclose(flat, 500.0 * (length - edge).clamp(min=0).square())
    assert int((flat == 0).sum()) == 3


def test_each_walker_has_its_own_window(system: System, x: Tensor) -> None:
    n, phi = system.n_atoms, torsion(system)
    centres, constants = torch.linspace(-3.0, 3.0, len(x)), torch.linspace(50.0, 300.0, len(x))
    energy, force = Umbrella(n, phi, centres, constants).energy_and_force(x)
    for k in range(len(x)):
        alone = Umbrella(n, phi, float(centres[k]), float(constants[k])).energy_and_force(x[k : k + 1])
        assert torch.allclose(energy[k], alone[0][0])
        assert torch.allclose(force[k], alone[1][0])
    with pytest.raises(InputError, match="6 walkers for 2 conformations"):
        Umbrella(n, phi, centres, 1.0).energy(x[:2])


def test_mirror_images_cost_and_the_right_ones_do_not(system: System, x: Tensor) -> None:
    centres = chiral_centres(system.topology)
    assert len(centres) == 2  # CA and CB of isoleucine
    restraint = Chirality(system.n_atoms, centres)
    assert float(restraint.energy(x).abs().max()) == 0.0
    mirror = x * torch.tensor([1.0, 1.0, -1.0])
    assert float(restraint.energy(mirror).min()) > 2 * 350.0
    # One centre alone: its own half of that.
    assert torch.allclose(sum(Chirality(system.n_atoms, [c]).energy(mirror) for c in centres), restraint.energy(mirror))


def test_chirality_turns_an_inverted_centre_back(system: System) -> None:
    centre = chiral_centres(system.topology)[0]
    x = torch.from_numpy(system.positions).clone()[None]
    hydrogen = system.topology.find(1, "HA")
    assert hydrogen is not None
    # Through the plane of the other three: CB and HA change places.
    x[:, [centre[3], hydrogen]] = x[:, [hydrogen, centre[3]]]
    restraint = Chirality(system.n_atoms, [centre], force_constant=5000.0)
    assert float(restraint.energy(x)) > 2000.0
    assert float(restraint.energy(minimise(x, restraint)[0])) < 1.0


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ("auto", "triton")])
def test_sums_with_every_engine(system: System, x: Tensor, engine: str) -> None:
    force_field, umbrella = potential(system, engine=engine), Umbrella(system.n_atoms, torsion(system), 1.0, 200.0)
    both = Sum([force_field, umbrella, Custom(system.n_atoms, radius)])
    energy, force = both.energy_and_force(x)
    parts = [one.energy_and_force(x) for one in both.potentials]
    assert torch.allclose(energy, sum(part[0] for part in parts))
    assert torch.allclose(force, sum(part[1] for part in parts))
    assert both.calls == len(x)
    reference = potential(system, engine="torch").energy(x) + umbrella.energy(x) + radius(x)
    assert torch.allclose(energy, reference, rtol=1e-4, atol=1e-2)


@pytest.mark.physics
def test_windows_hold_a_peptide_where_they_should(system: System) -> None:
    """A stiff window on phi and psi: after minimisation both are at their centres, one pair for each walker."""
    n, top = system.n_atoms, system.topology
    psi = psi_atoms(top, 1)
    assert psi is not None
    phi_at, psi_at = torch.tensor([-2.5, -1.2, -1.2]), torch.tensor([2.6, -0.7, 2.0])
    windows = [Umbrella(n, torsion(system), phi_at, 1e4), Umbrella(n, psi, psi_at, 1e4)]
    biased = Sum([potential(system), *windows])
    start = torch.from_numpy(system.positions).expand(3, -1, -1)
    found = minimise(start, biased, 1000)[0]
    angles = dihedral(found.numpy(), np.array([torsion(system), psi]))
    away = np.angle(np.exp(1j * (angles - torch.stack([phi_at, psi_at], 1).numpy())))
    assert np.abs(away).max() < 0.05


@pytest.mark.physics
def test_replica_exchange_of_a_sum_samples_the_biased_distribution(system: System) -> None:
    """A window much stiffer than the force field: its own centre and, nearly, its own width."""
    window = Umbrella(system.n_atoms, torsion(system), -1.2, 4000.0)
    settings = ExchangeSettings(
        temperatures=(300.0, 330.0),
        ladders=16,
        steps=3000,
        equilibration=1000,
        exchange_every=50,
        save_every=50,
        shard=30,
        start_steps=0,
        timestep=0.001,
        friction=10.0,
    )
    data = simulate(system, settings, potential=Sum([potential(system, dtype=torch.float32), window]))
    away = dihedral(data.positions, np.array([torsion(system)]))[:, 0] + 1.2
    assert abs(data.expectation(away).value) < 0.01
    # Measured with long runs: the force field adds about 100 kJ/mol/rad^2.
    assert data.expectation(away**2).value == pytest.approx(kt(300.0) / 4100.0, rel=0.2)


def test_a_function_that_misbehaves(system: System, x: Tensor) -> None:
    n = system.n_atoms
    broken = Custom(n, lambda x: torch.where(torch.arange(len(x)) == 1, math.nan, 1.0) * x.square().sum((1, 2)))
    energy, force = broken.energy_and_force(x)
    assert torch.isinf(energy).tolist() == [False, True, False, False, False, False]
    assert float(force[1].abs().max()) == 0.0
    assert torch.allclose(force[0], -2 * x[0])
    pole = Custom(n, lambda x: (x[:, 0] - x[:, 0]).norm(dim=-1).sqrt())  # value 0, gradient NaN
    energy, force = pole.energy_and_force(x)
    assert not bool(force.isnan().any())
    constant = Custom(n, lambda x: torch.ones(len(x)))
    assert float(constant.energy_and_force(x)[1].abs().max()) == 0.0
    with torch.no_grad():
        assert torch.allclose(Custom(n, radius).energy_and_force(x)[0], radius(x))
    with pytest.raises(InputError, match="gave shape"):
        Custom(n, torch.sum).energy(x)
    minus = Sum([Custom(n, lambda x: x.sum((1, 2)) * 0 - math.inf), potential(system)])
    assert bool(torch.isposinf(minus.energy(x)).all())


def test_wrong_parameters_are_one_line(system: System, x: Tensor) -> None:
    n = system.n_atoms
    wrong = [
        lambda: Umbrella(n, (0, 1, 2), 0.0, 1.0),
        lambda: Umbrella(n, (0, 0), 0.0, 1.0),
        lambda: Umbrella(n, (0, n), 0.0, 1.0),
        lambda: Umbrella(n, (0, 1), math.nan, 1.0),
        lambda: Umbrella(n, (0, 1), 0.1, -1.0),
        lambda: FlatBottom(n, (0, 1, 2, 3), 0.1, 1.0),
        lambda: FlatBottom(n, (0, 1), 0.1, 1.0, lower=0.2),
        lambda: Chirality(n, []),
        lambda: Chirality(n, [(0, 1, 2, 2)]),
        lambda: Chirality(n, [(0, 1, 2, 3)], volume=3.0),
        lambda: Sum([]),
        lambda: Sum([Custom(n, radius), Custom(n + 1, radius)]),
        lambda: Umbrella(n, (0, 1), 0.1, 1.0).energy(x[:, 1:]),
    ]
    for make in wrong:
        with pytest.raises(InputError) as caught:
            make()
        assert "\n" not in str(caught.value)
