"""Umbrella windows: against an analytic torsion potential, a plain run, and themselves after a kill."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm as mm
import pytest
import torch

from gibbsian.chem.library import built_in
from gibbsian.chem.system import System
from gibbsian.chem.topology import Topology
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.mbar import free_energies
from gibbsian.dynamics.simulate import simulate
from gibbsian.dynamics.umbrella import UmbrellaSettings, umbrella, windows_of
from gibbsian.dynamics.umbrella_weights import umbrella_weights
from gibbsian.dynamics.windows import Windows, torsion_atoms
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import GibbsianError, InputError, StoppedError
from gibbsian.kernels import is_built
from gibbsian.potentials import potential
from gibbsian.units import kt

needs_engine = pytest.mark.skipif(not is_built(), reason="the compiled engine was not built")
CHAIN = np.array([[0, 1, 2, 3]])
SHORT = UmbrellaSettings(
    ("1:chi1",),
    windows=12,
    copies=8,
    steps=1000,
    equilibration=300,
    pull_steps=400,
    save_every=50,
    shard=4,
    friction=5.0,
    start_steps=200,
    seed=3,
)


def chain(barrier: float = 32.0) -> System:
    """Four atoms with U = barrier/2 (1 + cos 2 t) + 2 (1 + cos(t - 1)); bonds and angles do not depend on t."""
    model = mm.System()
    bonds, angles, torsion = mm.HarmonicBondForce(), mm.HarmonicAngleForce(), mm.PeriodicTorsionForce()
    for _ in range(4):
        model.addParticle(12.0)
    for i in range(3):
        bonds.addBond(i, i + 1, 0.15, 2e5)
    for i in range(2):
        angles.addAngle(i, i + 1, i + 2, 1.9, 500.0)
    torsion.addTorsion(0, 1, 2, 3, 2, 0.0, barrier / 2)
    torsion.addTorsion(0, 1, 2, 3, 1, 1.0, 2.0)
    for force in (bonds, angles, torsion):
        model.addForce(force)
    topology = Topology(
        ("N", "CA", "CB", "OG"),
        ("N", "C", "C", "O"),
        np.zeros(4, dtype=np.int64),
        ("SER",),
        ("1",),
        np.array([[0, 1], [1, 2], [2, 3]]),
    )
    x = np.array([[0.0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.35, 0.14, 0.05]])
    return System("SER", "custom", "custom", "custom", None, 300.0, topology, x, model)


def exact(edges: np.ndarray, barrier: float = 32.0) -> np.ndarray:
    """Probability of each bin: bonds and angles separate from the torsion, whose Jacobian is constant."""
    t = np.linspace(-np.pi, np.pi, 36_001)[:-1] + np.pi / 36_000
    p = np.exp(-(barrier / 2 * (1 + np.cos(2 * t)) + 2 * (1 + np.cos(t - 1))) / kt(300.0))
    return np.histogram(t, edges, weights=p / p.sum())[0]


def same(a: Ensemble, b: Ensemble) -> bool:
    assert a.u is not None
    assert b.u is not None
    pairs = ((a.positions, b.positions), (a.log_w, b.log_w), (a.u, b.u))
    return all(np.array_equal(x, y) for x, y in pairs) and a.provenance == b.provenance


@needs_engine
@pytest.mark.physics
def test_recovers_the_density_of_a_known_torsion_potential() -> None:
    settings = replace(SHORT, windows=18, copies=16, steps=10_000, equilibration=1000)
    data = umbrella(chain(), settings)
    edges = np.linspace(-np.pi, np.pi, 13)
    angle = dihedral(data.positions, CHAIN)[:, 0]
    wanted = exact(edges)
    assert wanted.min() < 2e-5  # nothing a plain run of this length would see
    bins = np.digitize(angle, edges) - 1
    for k in range(12):
        free = data.free_energy(bins == k)
        assert free.error < 0.15
        assert abs(free.value + np.log(wanted[k] / (1 - wanted[k]))) < 4 * free.error
    assert data.lineage is not None
    assert np.allclose(np.bincount(data.lineage, data.weights), 1 / 16)
    statistics = data.provenance["statistics"]
    assert 0.05 < statistics["smallest_neighbour_overlap"] < 0.4
    assert 0 < statistics["overlap_gap"] < 1
    assert statistics["statistical_inefficiency_ps"]["median"] > 0.05
    assert data.u is not None
    energy = potential(chain()).energy(torch.from_numpy(data.positions[::500]).double()) / kt(300.0)
    assert np.allclose(data.u[::500], energy.numpy(), atol=1e-3)  # without the bias


@needs_engine
def test_a_stopped_simulation_continues_bit_for_bit(tmp_path: Path) -> None:
    class Stopper:
        def __init__(self, n: int) -> None:
            self.left = n

        def __call__(self, done: float, total: float, /, **figures: float | str) -> None:
            assert 0 < done <= total
            self.left -= 1
            if self.left == 0:
                raise StoppedError("stopped")

    undisturbed = umbrella(chain(), SHORT)
    for n in (1, 2, 1):  # in equilibration, then twice later
        with pytest.raises(StoppedError):
            umbrella(chain(), SHORT, tmp_path, Stopper(n))
    (tmp_path / "positions-00002.npy").write_bytes(b"half a shard")  # written just before a kill
    assert same(umbrella(chain(), SHORT, tmp_path, threads=1), undisturbed)
    longer = umbrella(chain(), replace(SHORT, steps=1200), tmp_path)
    assert same(longer, umbrella(chain(), replace(SHORT, steps=1200)))
    with pytest.raises(InputError, match="seed 3, not 4"):
        umbrella(chain(), replace(SHORT, seed=4), tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged checkpoint"):
        umbrella(chain(), SHORT, tmp_path)


@needs_engine
def test_two_torsions_start_in_their_windows_with_handedness_kept() -> None:
    system = built_in("ACE-ALA-NME")
    settings = replace(
        SHORT, torsions=("ALA2:phi", "2:psi"), windows=18, copies=2, steps=200, equilibration=200, pull_steps=1000
    )
    data = umbrella(system, settings)
    windows = windows_of(system, settings.resolved(300.0))
    angles = dihedral(data.positions, windows.atoms).reshape(2, 324, 4, 2)
    away = (angles - windows.centres[:, None] + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(away).max() < 1.5
    assert np.abs(away).mean() < 0.25
    n, ca, c, cb = (system.topology.find(1, name) for name in ("N", "CA", "C", "CB"))
    a, b, d = (data.positions[:, i] - data.positions[:, ca] for i in (n, c, cb))
    assert (np.einsum("ni,ni->n", np.cross(a, b), d) > 0).all()
    assert len(data.provenance["statistics"]["free_energies"]) == 324


@needs_engine
@pytest.mark.slow
@pytest.mark.physics
def test_agrees_with_a_plain_long_run() -> None:
    system = built_in("ACE-ALA-NME")
    engine = potential(system, "compiled", dtype=torch.float32)
    settings = UmbrellaSettings(("2:phi",), steps=20_000, equilibration=10_000, save_every=250, seed=1)
    biased = umbrella(system, settings, potential=engine)
    hot = ExchangeSettings(temperatures=(300.0,), ladders=128, groups=1, steps=40_000, equilibration=10_000)
    plain = simulate(system, hot, potential=engine)
    edges = np.radians([-180.0, -130, -100, -70, -40])  # where a plain run equilibrates quickly
    found = []
    for data in (biased, plain):
        phi = dihedral(data.positions, windows_of(system, settings.resolved(300.0)).atoms)[:, 0]
        inside = (phi > edges[0]) & (phi < edges[-1])
        part = data.take(inside)
        found.append([part.free_energy(np.digitize(phi[inside], edges) == k) for k in range(1, 5)])
    for one, other in zip(*found, strict=True):
        assert np.hypot(one.error, other.error) < 0.4
        assert abs(one.value - other.value) < 4 * np.hypot(one.error, other.error)


def test_weights_of_exact_draws() -> None:
    """Frames drawn from each window of a cosine: free energies as integrated, weights uniform after reweighting."""
    windows = Windows(np.zeros((1, 4), dtype=np.int64), (10,), np.array([20.0]))
    grid = (np.arange(7200) + 0.5) * 2 * np.pi / 7200 - np.pi
    log_p = -4.0 * np.cos(grid)
    biased = log_p[:, None] - windows.energies(grid[:, None]) / kt(300.0)
    generator = np.random.default_rng(0)
    p = np.exp(biased)
    angles = np.stack([generator.choice(grid, (4, 2000), p=column / column.sum()) for column in p.T], 1)[..., None]
    log_w, f, overlap = umbrella_weights(angles, windows, kt(300.0))
    free = -np.log(p.sum(0))
    assert np.allclose(f.mean(0), free - free[0], atol=0.1)
    assert np.allclose(np.exp(log_w).sum(1), 0.25)
    assert np.allclose(overlap.sum(1), 1.0, atol=1e-6)
    mean = (np.exp(log_w) * np.cos(angles.reshape(4, -1))).sum()
    assert mean == pytest.approx(np.average(np.cos(grid), weights=np.exp(log_p)), abs=0.01)


def test_solver_agrees_with_pymbar_from_any_start() -> None:
    pymbar = pytest.importorskip("pymbar.mbar")
    windows = Windows(np.zeros((2, 4), dtype=np.int64), (4, 5), np.array([8.0, 12.0]))
    angles = np.random.default_rng(1).uniform(-np.pi, np.pi, (20, 60, 2))
    angles = windows.centres[:, None] + 0.4 * (angles - windows.centres[:, None])
    u = windows.energies(angles.reshape(-1, 2)) / kt(300.0) * 2
    counts = torch.full((20,), 60)
    f = free_energies(torch.from_numpy(u), counts)
    far = free_energies(torch.from_numpy(u), counts, 3 * torch.randn(20, generator=torch.Generator().manual_seed(0)))
    other = pymbar.MBAR(u.T, counts.numpy(), solver_protocol=({"method": "adaptive", "options": {"min_sc_iter": 5}},))
    assert np.allclose(f.numpy(), other.f_k - other.f_k[0], atol=1e-6)
    assert np.allclose(far.numpy(), f.numpy(), atol=1e-6)


def test_windows_without_overlap_are_reported() -> None:
    angles = np.zeros((1, 8, 5, 1)) + (np.arange(8) + 0.5)[:, None, None] * np.pi / 4 - np.pi
    windows = Windows(np.zeros((1, 4), dtype=np.int64), (8,), np.array([1e5]))
    with pytest.raises(GibbsianError, match="overlap"):
        umbrella_weights(angles, windows, kt(300.0))


def test_bias_energies_and_neighbours_are_periodic() -> None:
    windows = Windows(np.zeros((2, 4), dtype=np.int64), (3, 4), np.array([2.0, 3.0]))
    angles = np.array([[3.0, -3.0]])
    difference = np.abs(angles - windows.centres)
    shorter = np.minimum(difference, 2 * np.pi - difference)
    assert np.allclose(windows.energies(angles), (0.5 * np.array([2.0, 3.0]) * shorter**2).sum(1))
    assert len(windows.neighbours) == 24
    assert [0, 3] in windows.neighbours.tolist()  # across the boundary of the second torsion
    assert [0, 8] in windows.neighbours.tolist()  # and of the first


def test_torsions_by_name() -> None:
    topology = built_in("ACE-ALA-NME").topology
    names = [topology.atom_names[i] for i in torsion_atoms(topology, "2:psi")]
    assert names == ["N", "CA", "C", "N"]
    assert torsion_atoms(topology, "ALA2:phi") == torsion_atoms(topology, "2:phi")
    for bad in ("2:chi1", "1:phi", "phi", "GLY2:phi", "2"):
        with pytest.raises(InputError, match=r"the molecule has 2:phi, 2:psi"):
            torsion_atoms(topology, bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"torsions": ()},
        {"torsions": ("2:phi", "2:phi")},
        {"torsions": ("2:phi", "2:psi", "3:phi")},
        {"windows": 2},
        {"copies": 1},
        {"k": 0.0},
        {"steps": 0},
        {"equilibration": -1},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        replace(SHORT, **bad)


def test_default_windows_overlap() -> None:
    for torsions, windows in ((("2:phi",), 24), (("2:phi", "2:psi"), 18)):
        settings = UmbrellaSettings(torsions).resolved(300.0)
        assert settings.windows == windows
        assert settings.k is not None
        assert np.sqrt(kt(300.0) / settings.k) == pytest.approx(np.pi / windows)
    with pytest.raises(InputError, match="the same"):
        windows_of(built_in("ACE-ALA-NME"), UmbrellaSettings(("2:phi", "ALA2:phi")).resolved(300.0))
