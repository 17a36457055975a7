"""How well engines agree with OpenMM, on relaxed, distorted and overlapping conformations."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.kernels import is_built
from gibbsian.potentials.base import Potential
from gibbsian.potentials.compiled import CompiledPotential
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.potentials.torch import TorchPotential

NOISE = (0.005, 0.03, 0.1)
"""Standard deviations (nm) of the displacements that conformations are compared at."""

OVERLAP = 0.01
"""Distance (nm) to which two atoms that are not bonded are brought."""

TOLERANCE = {"float64": 1e-7, "float32": 1e-4}
"""Largest error, relative in energy and of the rms in force, of an engine that agrees. Rounding the coordinates of a
stiff molecule to single precision alone moves a force by up to 1e-4 of the rms."""


@dataclass(frozen=True)
class Agreement:
    """One engine against OpenMM's Reference platform on one kind of conformations.

    Attributes
    ----------
    engine, frames
        Name and precision; kind of conformations.
    energy, absolute
        Largest error of the energy, relative and in kJ/mol.
    force
        Largest error of a force component over the root mean square force of its conformation.
    note
        Why there are no figures, if there are none.
    """

    engine: str
    frames: str
    energy: float
    absolute: float
    force: float
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both errors are within the tolerance of the engine's precision."""
        tolerance = TOLERANCE.get(self.engine.split()[-1], 0.0)
        return self.energy <= tolerance and self.force <= tolerance


def displaced(system: System, n: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Conformations (n, n_atoms, 3) nm around the system's own: by noise, and with two atoms in almost one place."""
    generator = np.random.default_rng(seed)
    x = np.broadcast_to(system.positions, (n, *system.positions.shape))
    kinds = {f"noise {scale}": x + scale * generator.normal(size=x.shape) for scale in NOISE}
    overlapping = kinds[f"noise {NOISE[0]}"].copy()
    for frame in overlapping:
        first, second = generator.choice(system.n_atoms, 2, replace=False)
        direction = generator.normal(size=3)
        frame[first] = frame[second] + OVERLAP * direction / np.linalg.norm(direction)
    return {name: torch.from_numpy(frames) for name, frames in {**kinds, "overlap": overlapping}.items()}


def compare_engines(system: System, frames: Mapping[str, Tensor]) -> list[Agreement]:
    """Compare all engines with the oracle on several kinds of conformations (n, n_atoms, 3) nm.

    Each engine sees them as its own precision rounds them. A system with forces that only OpenMM knows gives one row
    that names them.
    """
    if system.parameters.unknown:
        names = ", ".join(system.parameters.unknown)
        return [Agreement("openmm", "", 0.0, 0.0, 0.0, f"only OpenMM knows {names}")]
    makers = {"torch": TorchPotential, **({"compiled": CompiledPotential} if is_built() else {})}
    rows = []
    with OpenMMPotential(system.openmm_system, workers=1, platform="Reference") as oracle:
        for dtype in (torch.float64, torch.float32):
            seen = {kind: x.to(dtype) for kind, x in frames.items()}
            truth = {kind: oracle.energy_and_force(x.double()) for kind, x in seen.items()}
            for name, make in makers.items():
                engine = make(system.parameters, dtype=dtype)
                label = f"{name} {str(dtype).removeprefix('torch.')}"
                rows += [_compare(label, kind, engine, x, *truth[kind]) for kind, x in seen.items()]
    return rows


def _compare(name: str, kind: str, engine: Potential, x: Tensor, true_energy: Tensor, true_force: Tensor) -> Agreement:
    energy, force = engine.energy_and_force(x)
    error = (energy - true_energy).abs()
    rms = true_force.square().mean((1, 2)).sqrt()
    by_force = (force - true_force).abs().amax((1, 2)) / rms
    return Agreement(name, kind, float((error / true_energy.abs()).max()), float(error.max()), float(by_force.max()))
