"""The batched engines against OpenMM's Reference platform."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import openmm as mm
import pytest
import torch
from molecules import molecule, noisy, oracle

from gibbsian.chem.parameters import extract
from gibbsian.errors import InputError
from gibbsian.kernels import instruction_sets
from gibbsian.potentials import CompiledPotential, Potential, TorchPotential
from gibbsian.testing.potential import check_potential

HEXA = "-".join(["ALA"] * 6)
CASES = {
    "amber99": ("ACE-ALA-NME",),
    "amber96": ("ALA-GLU-LYS", "amber96", "amber96_obc"),
    "fb15": ("ALA-ASP-ARG", "amberfb15", "obc2"),
    "vacuum": ("ACE-ALA-NME", "amber14", "vacuum"),
    "hct": ("ACE-ALA-NME", "amber14", "hct"),
    "hct sulphur": ("ACE-CYS-NME", "amber14", "hct"),
    "obc1": ("ALA-ALA-ALA", "amber14", "obc1"),
    "obc2": ("ACE-PHE-NME", "amber14", "obc2"),
    "gbn": ("ALA-MET-CYS", "amber14", "gbn"),
    "gbn2 sulphur": ("ACE-MET-CYS-NME", "amber14", "gbn2"),
    "norleucine": ("ACE-NLE-NME", "amber14", "obc2"),
    "charmm norleucine": ("ACE-NLE-NME", "charmm36", "obc2"),
    "cmap": ("ALA-TRP-SER-GLY", "amber19", "gbn2"),
    "no surface": ("ACE-ALA-NME", "amber14", "obc2", None, 0.0, None),
    "salt": ("ACE-ALA-NME", "amber14", "gbn2", None, 0.9),
    "salt and cutoff": ("ALA-ALA-ALA", "amber14", "obc1", 0.8, 1.3),
    "vacuum 0.8": ("ALA-ALA-ALA", "amber14", "vacuum", 0.8),
    **{
        f"{solvent} {cutoff}": (HEXA, field, solvent, cutoff)
        for field, solvent in (("amber99sbildn", "amber99_obc"), ("amber14", "obc1"), ("amber14", "gbn2"))
        for cutoff in (0.8, 2.0, None)
    },
    **{
        f"charmm {solvent} {cutoff}": (sequence, "charmm36", solvent, cutoff)
        for solvent, first, second in (
            ("vacuum", "ACE-PRO-HIS-TRP-CYS-NME", "GLY-LYS-PRO-ASP"),
            ("hct", "PRO-ALA-GLU", "ACE-MET-THR-HIP-ALA-NME"),
            ("obc1", "ACE-ALA-NME", "TRP-GLY-ARG"),
            ("obc2", "CYS-ALA-HIS", "ACE-PHE-GLY-ASN-ALA-NME"),
            ("gbn", "ACE-GLH-TYR-NH2", "ALA-VAL-TRP"),
            ("gbn2", "ACE-MET-CYS-NME", "ALA-PRO-HIS-CYS-TRP"),
        )
        for sequence, cutoff in ((first, None), (second, 0.8))
    },
}


Make = Callable[..., Potential]
WIDEST = {"torch": TorchPotential, **({"compiled": CompiledPotential} if instruction_sets() else {})}
MAKE: dict[str, Make] = {
    **WIDEST,
    "plain": partial(TorchPotential, differentiable=True),
    **{name: partial(CompiledPotential, instruction_set=name) for name in instruction_sets()[1:]},
}
widest, every = (pytest.mark.parametrize("engine", kinds) for kinds in (WIDEST, MAKE))


def errors(engine: str, case: tuple[Any, ...], x: np.ndarray, dtype: torch.dtype) -> tuple[float, float, float]:
    """Relative and absolute energy error, force error over rms, on coordinates as the engine sees them."""
    system, _ = molecule(*case)
    seen = torch.from_numpy(x).to(dtype)
    energy, force = MAKE[engine](extract(system), dtype=dtype).energy_and_force(seen)
    true_energy, true_force = oracle(system, seen.double().numpy())
    rms = np.sqrt((true_force**2).mean((1, 2)))
    difference = np.abs(energy.numpy() - true_energy)
    by_force = np.abs(force.double().numpy() - true_force).max((1, 2)) / rms
    return float((difference / np.abs(true_energy)).max()), float(difference.max()), float(by_force.max())


@widest
@pytest.mark.parametrize("name", CASES)
def test_double_precision_agrees_with_reference(engine: str, name: str) -> None:
    _, x = molecule(*CASES[name])
    frames = np.concatenate([x[None], *(noisy(x, 2, scale) for scale in (0.005, 0.03, 0.1))])
    energy, _, force = errors(engine, CASES[name], frames, torch.float64)
    assert energy <= 1e-7
    assert force <= 1e-7


@widest
@pytest.mark.parametrize("name", ["amber99_obc 0.8", "obc1 2.0", "gbn2 0.8", "charmm gbn2 0.8"])
def test_compact_chain_within_cutoff(engine: str, name: str) -> None:
    """A chain squeezed into a third of its length: other pairs are within the cutoff."""
    _, x = molecule(*CASES[name])
    squeezed = noisy((x - x.mean(0)) * [0.35, 1.0, 1.0], 3, 0.02)
    energy, _, force = errors(engine, CASES[name], squeezed, torch.float64)
    assert energy <= 1e-7
    assert force <= 1e-7


@pytest.mark.parametrize("engine", [*WIDEST, *instruction_sets()[1:]])
@pytest.mark.parametrize(
    "name", ["amber99", "gbn2 sulphur", "cmap", "obc1 None", "charmm vacuum None", "charmm gbn2 0.8"]
)
def test_single_precision(engine: str, name: str) -> None:
    _, x = molecule(*CASES[name])
    _, absolute, force = errors(engine, CASES[name], noisy(x, 4, 0.002), torch.float32)
    assert absolute <= 2e-4 * (len(x) / 22) ** 1.5
    assert force <= 2e-5
    relative, _, _ = errors(engine, CASES[name], noisy(x, 4, 0.1), torch.float32)
    assert relative <= 1e-4


@widest
@pytest.mark.parametrize("name", ["amber99", "hct sulphur", "gbn", "gbn2 sulphur"])
def test_engulfed_atoms(engine: str, name: str) -> None:
    """Hydrogens pushed into heavy atoms: only the built-in force has the extra term, the others the extra force."""
    system, x = molecule(*CASES[name])
    born = extract(system).born
    assert born is not None
    # Pairs in which one atom can be swallowed, brought to 2 pm.
    depth = born.scaled_radii[None] - born.offset_radii[:, None]
    inner, outer = np.unravel_index(np.argmax(depth), depth.shape)
    assert depth[inner, outer] > 0.002
    frames = np.repeat(x[None], 3, 0)
    for frame, distance in zip(frames, (0.5, 0.9, 1.1), strict=True):
        frame[inner] = frame[outer] + [distance * depth[inner, outer], 0.0, 0.0]
    energy, _, force = errors(engine, CASES[name], frames, torch.float64)
    assert energy <= 1e-7
    assert force <= 1e-7


@widest
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["amber99", "hct", "gbn2 sulphur", "cmap", "charmm gbn2 0.8"])
def test_never_nan(engine: str, name: str, dtype: torch.dtype) -> None:
    system, x = molecule(*CASES[name])
    frames = torch.from_numpy(np.concatenate([noisy(x, 50, 0.1), noisy(x, 50, 1.0), noisy(0 * x, 50, 0.01)]))
    frames = torch.cat([frames, torch.zeros(1, *x.shape), torch.full((1, *x.shape), torch.nan)])
    frames[0, -1] = frames[0, 0]
    energy, force = MAKE[engine](extract(system), dtype=dtype).energy_and_force(frames.to(dtype))
    assert not energy.isnan().any()
    assert torch.isfinite(force).all()
    assert energy[0] > 1e10
    assert torch.isinf(energy[-1])
    assert torch.isfinite(energy[:50]).all()


@every
@pytest.mark.parametrize("name", ["amber99", "cmap", "salt and cutoff", "charmm obc1 None"])
def test_conformance(engine: str, name: str) -> None:
    system, x = molecule(*CASES[name])
    frames = torch.from_numpy(noisy(x, 3, 0.004))
    check_potential(MAKE[engine](extract(system)), frames)


@widest
def test_conformance_in_single_precision(engine: str) -> None:
    system, x = molecule("ACE-ALA-NME")
    frames = torch.from_numpy(noisy(x, 3, 0.004)).float()
    potential = MAKE[engine](extract(system), dtype=torch.float32)
    check_potential(potential, frames, rtol=1e-3, step=1e-4)


@every
def test_ryckaert_bellemans_and_phases(engine: str) -> None:
    """Torsions with any phase, RB torsions, and the same four atoms several times, forwards and backwards."""
    system = mm.System()
    for _ in range(6):
        system.addParticle(12.0)
    periodic, rb = mm.PeriodicTorsionForce(), mm.RBTorsionForce()
    periodic.addTorsion(0, 1, 2, 3, 3, 0.7, 2.0)
    periodic.addTorsion(3, 2, 1, 0, 5, -1.9, 3.0)
    periodic.addTorsion(1, 2, 3, 4, 1, np.pi, 1.5)
    rb.addTorsion(2, 3, 4, 5, 1.0, -2.0, 3.0, 4.0, -5.0, 6.0)
    rb.addTorsion(0, 1, 2, 3, 0.5, 1.0, 0.0, 2.0, 0.0, 1.0)
    system.addForce(periodic)
    system.addForce(rb)
    x = np.random.default_rng(0).normal(size=(5, 6, 3)) * 0.2
    energy, force = MAKE[engine](extract(system)).energy_and_force(torch.from_numpy(x))
    true_energy, true_force = oracle(system, x)
    np.testing.assert_allclose(energy, true_energy, rtol=1e-9)
    np.testing.assert_allclose(force, true_force, rtol=1e-7, atol=1e-7 * np.abs(true_force).max())


def impropers(*terms: tuple) -> mm.CustomTorsionForce:
    """CHARMM's impropers, from rows of four atoms and (k, theta0)."""
    force = mm.CustomTorsionForce(
        "k*min(dtheta, 2*pi - dtheta)^2; dtheta = abs(theta - theta0); pi = 3.141592653589793"
    )
    force.addPerTorsionParameter("k")
    force.addPerTorsionParameter("theta0")
    for term in terms:
        force.addTorsion(*term)
    return force


@every
def test_impropers_go_the_shorter_way_around(engine: str) -> None:
    """Rest angles anywhere: the difference exceeds half a turn in many of the frames."""
    system = mm.System()
    for _ in range(6):
        system.addParticle(12.0)
    angles = (0.0, 0.4, 3.0, np.pi, -np.pi, -2.5, 5.0, -6.0)
    system.addForce(impropers(*((*np.roll(range(6), n)[:4], (30.0 + n, a)) for n, a in enumerate(angles))))
    x = np.random.default_rng(0).normal(size=(50, 6, 3)) * 0.2
    seen = torch.from_numpy(x).requires_grad_()
    energy = MAKE[engine](extract(system)).energy(seen)
    (gradient,) = torch.autograd.grad(energy.sum(), seen)
    true_energy, true_force = oracle(system, x)
    np.testing.assert_allclose(energy.detach(), true_energy, rtol=1e-10)
    np.testing.assert_allclose(-gradient, true_force, rtol=1e-7, atol=1e-9 * np.abs(true_force).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every
def test_collinear_torsions_give_finite_forces(engine: str, dtype: torch.dtype) -> None:
    system = mm.System()
    for _ in range(4):
        system.addParticle(12.0)
    periodic = mm.PeriodicTorsionForce()
    periodic.addTorsion(0, 1, 2, 3, 3, 0.0, 2.0)
    angle = mm.HarmonicAngleForce()
    angle.addAngle(0, 1, 2, 2.0, 100.0)
    for force in (periodic, angle, impropers((0, 1, 2, 3, (500.0, 0.5)), (3, 0, 2, 1, (500.0, 3.0)))):
        system.addForce(force)
    line = [[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]]
    x = torch.tensor([[*line, [0.3, 0.1, 0]], [*line, [0.3, 0, 0]], [[0.0, 0, 0]] * 4], dtype=dtype).requires_grad_()
    energy = MAKE[engine](extract(system), dtype=dtype).energy(x)
    (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=engine == "plain")
    assert torch.isfinite(energy).all()
    assert torch.isfinite(gradient).all()
    if engine == "plain":
        (second,) = torch.autograd.grad(gradient.sum(), x)
        assert torch.isfinite(second[:2]).all()  # the third has all atoms in one place


@widest
def test_copies_compute_the_same(engine: str) -> None:
    system, x = molecule("ACE-ALA-NME")
    frames = torch.from_numpy(noisy(x, 3, 0.004))
    potential = MAKE[engine](extract(system))
    expected = potential.energy_and_force(frames)
    torch.testing.assert_close(pickle.loads(pickle.dumps(potential)).energy_and_force(frames), expected)


@widest
def test_bad_shape_and_unknown_force_are_input_errors(engine: str) -> None:
    system, x = molecule("ACE-ALA-NME")
    with pytest.raises(InputError, match="expected \\(batch, 22, 3\\)"):
        MAKE[engine](extract(system)).energy(torch.from_numpy(x))
    system = mm.XmlSerializer.clone(system)
    system.addForce(mm.CustomExternalForce("x^2"))
    with pytest.raises(InputError, match="CustomExternalForce"):
        MAKE[engine](extract(system))
