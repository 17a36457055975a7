"""How well engines agree with OpenMM, on relaxed and on distorted conformations."""

from dataclasses import dataclass

import numpy as np
import torch

from gibbsian.chem.system import System
from gibbsian.potentials.compiled import CompiledPotential, is_built
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.potentials.torch import TorchPotential

NOISE = (0.005, 0.03, 0.1)
"""Standard deviations (nm) of the displacements that conformations are compared at."""

TOLERANCE = {"float64": 1e-7, "float32": 1e-4}
"""Largest error, relative in energy and of the rms in force, of an engine that agrees. Rounding the coordinates of a
stiff molecule to single precision alone moves a force by up to 1e-4 of the rms."""


@dataclass(frozen=True)
class Agreement:
    """One engine against OpenMM's Reference platform at one noise level.

    Attributes
    ----------
    engine, noise
        Name and precision; standard deviation of the displacements in nm.
    energy
        Largest relative error of the energy.
    force
        Largest error of a force component over the root mean square force of its conformation.
    note
        Why there are no figures, if there are none.
    """

    engine: str
    noise: float
    energy: float
    force: float
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether both errors are within the tolerance of the engine's precision."""
        tolerance = TOLERANCE.get(self.engine.split()[-1], 0.0)
        return self.energy <= tolerance and self.force <= tolerance


def compare_engines(system: System, n_frames: int = 4, seed: int = 0) -> list[Agreement]:
    """Compare all engines with the oracle, on `n_frames` conformations for each of `NOISE`.

    Conformations are the system's own positions, displaced at random; each engine sees them as its own precision
    rounds them. A system with forces that only OpenMM knows gives one row that names them.
    """
    if system.parameters.unknown:
        names = ", ".join(system.parameters.unknown)
        return [Agreement("openmm", 0.0, 0.0, 0.0, f"only OpenMM knows {names}")]
    generator = np.random.default_rng(seed)
    shape = (n_frames, *system.positions.shape)
    kinds = {"torch": TorchPotential, **({"compiled": CompiledPotential} if is_built() else {})}
    engines = {
        f"{name} {str(dtype).removeprefix('torch.')}": kind(system.parameters, dtype=dtype)
        for name, kind in kinds.items()
        for dtype in (torch.float64, torch.float32)
    }
    rows = []
    with OpenMMPotential(system.openmm_system, workers=1, platform="Reference") as oracle:
        for noise in NOISE:
            x = torch.from_numpy(system.positions + noise * generator.normal(size=shape))
            for name, engine in engines.items():
                seen = x.to(engine.dtype)
                energy, force = engine.energy_and_force(seen)
                true_energy, true_force = oracle.energy_and_force(seen.double())
                rms = true_force.square().mean((1, 2)).sqrt()
                rows.append(
                    Agreement(
                        name,
                        noise,
                        float(((energy - true_energy) / true_energy).abs().max()),
                        float(((force - true_force).abs().amax((1, 2)) / rms).max()),
                    )
                )
    return rows
