"""The engine for GPUs against OpenMM's Reference platform.

Without a GPU, but with the library triton, `TRITON_INTERPRET=1` runs the kernels in Triton's interpreter. That is slow,
hence molecules of about 20 atoms.
"""

import math
from typing import Any

import numpy as np
import openmm as mm
import pytest
import torch
from molecules import molecule, noisy, oracle
from torch import Tensor

from gibbsian.chem.parameters import Parameters, extract
from gibbsian.chem.system import System
from gibbsian.errors import InputError, OutOfMemoryError
from gibbsian.potentials import TorchPotential, TritonPotential, potential
from gibbsian.potentials.triton import has_triton
from gibbsian.potentials.triton.engine import BLOCK, block_for, is_interpreted
from gibbsian.potentials.triton.tables import pair_tables, term_lists
from gibbsian.testing.potential import check_potential

CASES: dict[str, tuple[Any, ...]] = {
    "amber99": ("ACE-ALA-NME",),
    "vacuum": ("ACE-GLY-NME", "amber14", "vacuum"),
    "vacuum and cutoff": ("ACE-GLY-NME", "amber14", "vacuum", 0.5),
    "hct sulphur": ("ACE-CYS-NME", "amber14", "hct"),
    "salt and cutoff": ("ACE-GLY-NME", "amber14", "obc1", 0.5, 1.3),
    "salt, no surface": ("ACE-GLY-NME", "amber14", "obc2", None, 0.9, None),
    "gbn": ("ACE-GLY-NME", "amber14", "gbn"),
    "gbn2 sulphur": ("ACE-CYS-NME", "amber14", "gbn2"),
    "cmap": ("ACE-ALA-NME", "amber19", "vacuum"),
    "charmm": ("ACE-ALA-NME", "charmm36", "vacuum", 0.5),
}
LARGE = {
    "chain": ("-".join(["ALA"] * 6), "amber14", "gbn2", 0.8),
    "charged": ("ALA-GLU-LYS", "amber96", "amber96_obc"),
    "charmm": ("ALA-PRO-HIS-CYS-TRP", "charmm36", "gbn2", 0.8),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# The interpreter computes with numpy, which warns of what a GPU leaves to the selection that follows.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning")
on_device = pytest.mark.skipif(
    not (has_triton() and (torch.cuda.is_available() or is_interpreted())), reason="needs triton and a GPU"
)
on_gpu = pytest.mark.skipif(not (has_triton() and torch.cuda.is_available()), reason="needs triton and a GPU")


def make(parameters: Parameters, dtype: torch.dtype = torch.float64) -> TritonPotential:
    return TritonPotential(parameters, dtype, DEVICE)


def errors(case: tuple[Any, ...], x: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Absolute and relative energy error and force error over rms, on coordinates as the engine sees them."""
    system, _ = molecule(*case)
    seen = torch.from_numpy(x).to(dtype)
    energy, force = make(extract(system), dtype).energy_and_force(seen)
    true_energy, true_force = oracle(system, seen.double().numpy())
    difference = np.abs(energy.numpy() - true_energy)
    rms = np.sqrt((true_force**2).mean((1, 2)))
    by_force = np.abs(force.double().numpy() - true_force).max((1, 2)) / rms
    return difference, difference / np.abs(true_energy), by_force


@pytest.mark.gpu
@on_device
@pytest.mark.parametrize("name", CASES)
def test_double_precision_agrees_with_reference(name: str) -> None:
    _, x = molecule(*CASES[name])
    frames = np.concatenate([noisy(x, 1, scale, seed=1) for scale in (0.005, 0.03, 0.1)])
    _, energy, force = errors(CASES[name], frames, torch.float64)
    assert energy.max() <= 1e-7
    assert force.max() <= 1e-7


@pytest.mark.gpu
@on_device
@pytest.mark.parametrize("name", CASES)
def test_single_precision(name: str) -> None:
    _, x = molecule(*CASES[name])
    absolute, relative, force = errors(
        CASES[name], np.concatenate([noisy(x, 1, 0.002), noisy(x, 1, 0.1)]), torch.float32
    )
    assert absolute[0] <= 2e-4 * (len(x) / 22) ** 1.5
    assert force[0] <= 2e-5
    assert relative[1] <= 1e-4


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LARGE)
def test_large_molecules(name: str, dtype: torch.dtype) -> None:
    _, x = molecule(*LARGE[name])
    frames = noisy((x - x.mean(0)) * [0.35, 1.0, 1.0], 8, 0.02)
    _, relative, force = errors(LARGE[name], frames, dtype)
    assert relative.max() <= (1e-7 if dtype == torch.float64 else 1e-4)
    assert force.max() <= (1e-7 if dtype == torch.float64 else 1e-4)


@pytest.mark.gpu
@on_device
@pytest.mark.parametrize("name", ["amber99", "hct sulphur"])
def test_engulfed_atoms(name: str) -> None:
    """Only the built-in force has the extra term, the others have the extra force."""
    system, x = molecule(*CASES[name])
    born = extract(system).born
    assert born is not None
    depth = born.scaled_radii[None] - born.offset_radii[:, None]
    inner, outer = np.unravel_index(np.argmax(depth), depth.shape)
    frames = np.repeat(x[None], 2, 0)
    for frame, distance in zip(frames, (0.5, 1.1), strict=True):
        frame[inner] = frame[outer] + [distance * depth[inner, outer], 0.0, 0.0]
    _, energy, force = errors(CASES[name], frames, torch.float64)
    assert energy.max() <= 1e-7
    assert force.max() <= 1e-7


@pytest.mark.gpu
@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["amber99", "cmap"])
def test_never_nan(name: str, dtype: torch.dtype) -> None:
    system, x = molecule(*CASES[name])
    frames = torch.from_numpy(np.concatenate([noisy(x, 3, 0.1), noisy(x, 3, 1.0), noisy(0 * x, 3, 0.01)]))
    broken = x[None].copy()
    broken[0, -1, 2] = np.nan
    frames = torch.cat([frames, torch.zeros(1, *x.shape), torch.from_numpy(broken)])
    frames[0, -1] = frames[0, 0]
    energy, force = make(extract(system), dtype).energy_and_force(frames.to(dtype))
    assert not energy.isnan().any()
    assert torch.isfinite(force).all()
    assert energy[0] > 1e10
    assert torch.isinf(energy[-1])
    assert torch.isfinite(energy[:3]).all()


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("name", CASES)
def test_conformance(name: str) -> None:
    system, x = molecule(*CASES[name])
    frames = torch.from_numpy(noisy(x, 3, 0.004))
    check_potential(make(extract(system)), frames)
    check_potential(make(extract(system), torch.float32), frames.float(), rtol=1e-3, step=1e-4)


@pytest.mark.gpu
@on_device
def test_gradient_batches_and_shapes() -> None:
    """More conformations than a block has, a gradient, and results where the coordinates are."""
    system, x = molecule(*CASES["vacuum"])
    engine = make(extract(system))
    frames = torch.from_numpy(noisy(x, BLOCK + 3, 0.004)).requires_grad_()
    energy = engine.energy(frames)
    (gradient,) = torch.autograd.grad(energy.sum(), frames)
    expected = TorchPotential(extract(system)).energy_and_force(frames.detach())
    torch.testing.assert_close((energy.detach(), -gradient), expected, rtol=1e-10, atol=1e-7)
    assert engine.calls == len(frames)
    assert engine.energy_and_force(frames[:0])[1].shape == (0, *x.shape)
    with pytest.raises(InputError, match="expected \\(batch, 19, 3\\)"):
        engine.energy(frames[0])


@pytest.mark.gpu
@on_device
def test_bonded_terms_of_any_kind() -> None:
    """Phases, RB torsions, the same atoms twice, impropers with any rest angle; six atoms and no pairs."""
    system = mm.System()
    for _ in range(6):
        system.addParticle(12.0)
    periodic, rb = mm.PeriodicTorsionForce(), mm.RBTorsionForce()
    periodic.addTorsion(0, 1, 2, 3, 3, 0.7, 2.0)
    periodic.addTorsion(3, 2, 1, 0, 5, -1.9, 3.0)
    rb.addTorsion(2, 3, 4, 5, 1.0, -2.0, 3.0, 4.0, -5.0, 6.0)
    improper = mm.CustomTorsionForce(
        "k*min(dtheta, 2*pi - dtheta)^2; dtheta = abs(theta - theta0); pi = 3.141592653589793"
    )
    improper.addPerTorsionParameter("k")
    improper.addPerTorsionParameter("theta0")
    for n, rest in enumerate((0.0, 3.0, -2.5, 5.0)):
        improper.addTorsion(*np.roll(range(6), n)[:4], (30.0 + n, rest))
    for force in (periodic, rb, improper):
        system.addForce(force)
    x = np.random.default_rng(0).normal(size=(20, 6, 3)) * 0.2
    energy, force = make(extract(system)).energy_and_force(torch.from_numpy(x))
    true_energy, true_force = oracle(system, x)
    np.testing.assert_allclose(energy, true_energy, rtol=1e-9)
    np.testing.assert_allclose(force, true_force, rtol=1e-7, atol=1e-8 * np.abs(true_force).max())


@pytest.mark.gpu
@on_device
def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    system, x = molecule(*CASES["vacuum"])
    frames = torch.from_numpy(noisy(x, 5, 0.004))
    engine = make(extract(system))
    expected = engine.energy_and_force(frames)
    run, room = engine._kernels.run, 2

    def limited(seen: Tensor, block: int) -> tuple[Tensor, Tensor]:
        if int((seen != 0).any(0).any(0).sum()) > room:
            raise torch.OutOfMemoryError
        return run(seen, block)

    monkeypatch.setattr(engine._kernels, "run", limited)
    torch.testing.assert_close(engine.energy_and_force(frames), expected)
    assert engine.chunk == 2
    room = 0
    with pytest.raises(OutOfMemoryError, match="single conformation"):
        engine.energy_and_force(frames)


def test_blocks() -> None:
    assert [block_for(n) for n in (1, 32, 33, 200, 257, 10**6)] == [32, 32, 64, 256, 256, 256]


@pytest.mark.parametrize("case", [("ACE-ALA-NME", "amber19", "gbn2"), ("ACE-ALA-NME", "charmm36", "vacuum", 0.5)])
def test_tables_list_every_term_of_every_atom(case: tuple[Any, ...]) -> None:
    """Each term appears once for each of its atoms, and that atom is where its place says."""
    parameters = extract(molecule(*case)[0])
    device = torch.device("cpu")
    lists, _ = term_lists(parameters, torch.float64, device)
    for name, m in (("bonds", 2), ("angles", 3), ("torsions", 4), ("impropers", 4)):
        kind = lists[name]
        owners = torch.repeat_interleave(torch.arange(parameters.n_atoms), kind.starts.diff())
        place = kind.index[:, :1].long()
        assert torch.equal(kind.index[:, 1:].gather(1, place)[:, 0].long(), owners)
        assert torch.equal(kind.index[:, 0].bincount(minlength=m), torch.full((m,), len(owners) // m))
    assert parameters.cmap is not None
    n_maps = sum(len(set(eight)) for eight in parameters.cmap.atoms.tolist())
    assert len(lists["maps"].index) == int(lists["maps"].starts[-1]) == n_maps
    tables = pair_tables(parameters, torch.float64, device)
    assert torch.equal(tables.pairs, tables.pairs.transpose(1, 2))
    assert tables.constants["CUT"] == (len(case) > 3)
    assert tables.constants["IN_SOLVENT"] == (len(case) == 3)
    assert math.isclose(tables.constants["NECK_REACH"], 0.0) == (len(case) > 3)


def test_auto_takes_triton_on_cuda_devices_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System.from_sequence("ACE-GLY-NME")
    for name in ("Compiled", "Triton", "Torch"):
        monkeypatch.setattr(f"gibbsian.potentials.choose.{name}Potential", lambda *_, name=name, **settings: name)
    for there, expected in ((True, "Triton"), (False, "Torch")):
        monkeypatch.setattr("gibbsian.potentials.choose.has_triton", lambda there=there: there)
        assert potential(system, device="cuda:0") == expected
        assert potential(system, device="cpu") != "Triton"
        assert potential(system, engine="triton", device="cuda") == "Triton"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    system, _ = molecule("ACE-ALA-NME")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("gibbsian.potentials.triton.engine.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed"):
        TritonPotential(extract(system))
    monkeypatch.setattr("gibbsian.potentials.triton.engine.find_spec", lambda name: name)
    with pytest.raises(InputError, match="needs a CUDA device"):
        TritonPotential(extract(system), device="cpu")
    strange = mm.XmlSerializer.clone(system)
    strange.addForce(mm.CustomExternalForce("x^2"))
    with pytest.raises(InputError, match="CustomExternalForce"):
        TritonPotential(extract(strange))
