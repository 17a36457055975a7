"""OpenMMPotential: the oracle, and the fallback for forces that no other engine knows."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.potentials.saved_force import SavedForce

REFERENCE_BELOW = 100
"""Atoms below which OpenMM's Reference platform beats its CPU platform (22 atoms: 32 against 450 us)."""

Floats = NDArray[np.float64]


class Evaluator:
    """One OpenMM context with a single thread."""

    def __init__(self, system_xml: str, platform: str):
        import openmm as mm

        system = mm.XmlSerializer.deserialize(system_xml)
        properties = {"Threads": "1"} if platform == "CPU" else {}
        self._context = mm.Context(
            system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName(platform), properties
        )

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Energies and forces; where OpenMM fails or the result is not finite, inf and zero."""
        import openmm as mm

        energy, force = np.full(len(x), np.inf), np.zeros(x.shape)
        for row, frame in enumerate(x):
            if not np.isfinite(frame).all():
                continue
            try:
                self._context.setPositions(frame)
                state = self._context.getState(getEnergy=True, getForces=True)
            except mm.OpenMMException:
                continue
            value = state.getPotentialEnergy()._value
            gradient = state.getForces(asNumpy=True)._value
            if np.isfinite(value) and np.isfinite(gradient).all():
                energy[row], force[row] = value, gradient
        return energy, force


_evaluator: Evaluator | None = None


def _start(system_xml: str, platform: str) -> None:
    global _evaluator
    _evaluator = Evaluator(system_xml, platform)


def _evaluate(x: Floats) -> tuple[Floats, Floats]:
    assert _evaluator is not None
    return _evaluator(x)


class OpenMMPotential:
    """Potential energy by OpenMM, one conformation at a time.

    Parameters
    ----------
    system
        An `openmm.System` or its XML. Constraints play no part in the energy and are removed.
    workers
        Processes with one single-threaded context each; 1 computes in this process. Default: the number of
        cores. Processes start at the first batch that is worth it, and end with `close` or the potential itself.
    platform
        OpenMM platform; by default Reference below 100 atoms, CPU from there on.

    Notes
    -----
    The Reference platform computes in double precision, the CPU platform in single. Energies are float64, forces
    have the dtype of `x`, both its device.
    """

    def __init__(self, system: Any, workers: int | None = None, platform: str | None = None):
        import openmm as mm

        serializer = mm.XmlSerializer
        system = serializer.deserialize(system) if isinstance(system, str) else serializer.clone(system)
        for index in reversed(range(system.getNumConstraints())):
            system.removeConstraint(index)
        self.n_atoms: int = system.getNumParticles()
        self.calls = 0
        self.workers = workers if workers is not None else (os.cpu_count() or 1)
        self.platform = platform or ("Reference" if self.n_atoms < REFERENCE_BELOW else "CPU")
        self._xml: str = mm.XmlSerializer.serialize(system)
        self._local: Evaluator | None = None
        self._pool: ProcessPoolExecutor | None = None

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64; its gradient is minus the force."""
        return SavedForce.apply(x, self.energy_and_force)  # pyright: ignore[reportReturnType]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm, without a graph."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.n_atoms, 3):
            raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {self.n_atoms}, 3) in nm")
        self.calls += len(x)
        frames = x.detach().to("cpu", torch.float64).numpy()
        energy, force = self._evaluate(frames)
        return (
            torch.from_numpy(energy).to(x.device),
            torch.from_numpy(force).to(device=x.device, dtype=x.dtype),
        )

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None, "_pool": None}

    def _evaluate(self, x: Floats) -> tuple[Floats, Floats]:
        if self.workers == 1 or (self._pool is None and len(x) < _WORTH_A_POOL):
            if self._local is None:
                self._local = Evaluator(self._xml, self.platform)
            return self._local(x)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self._xml, self.platform),
            )
        # Several pieces per worker, so that none waits long for the slowest.
        pieces = [piece for piece in np.array_split(x, 4 * self.workers) if len(piece)]
        results = list(self._pool.map(_evaluate, pieces))
        if not results:
            return np.zeros(0), np.zeros(x.shape)
        energies, forces = zip(*results, strict=True)
        return np.concatenate(energies), np.concatenate(forces)


_WORTH_A_POOL = 64
"""Smaller first batches do not pay for starting processes, which takes seconds."""


def platform_names() -> list[str]:
    """Names of the platforms that this OpenMM has."""
    import openmm

    return [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
