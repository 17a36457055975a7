"""Langevin dynamics by OpenMM, one walker after the other on each core: what other dynamics are compared with."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.system import System
from gibbsian.potentials.openmm_best import with_builtin_born

Floats = NDArray[np.float64]

PLATFORMS = ("Reference", "CPU")
"""Platforms that need nothing but a processor."""


@dataclass(frozen=True)
class Walk:
    """What every walker does, from Maxwell-Boltzmann velocities on.

    Attributes
    ----------
    temperature, timestep, friction
        K, ps, 1/ps.
    frames, every
        How many frames to keep, and the steps before each.
    """

    temperature: float
    timestep: float
    frames: int
    every: int
    friction: float = 1.0


@dataclass(frozen=True, eq=False)
class Walked:
    """One walker: positions (frames, N, 3) nm, energy (frames,) kJ/mol, and the seconds that its steps took."""

    positions: Floats
    energy: Floats
    seconds: float


@dataclass(frozen=True)
class Form:
    """One way to compute a system in OpenMM: an `openmm.System` as XML, a platform, and both in words."""

    system_xml: str
    platform: str
    what: str


class OpenMMDynamics:
    """Runs walkers with `LangevinMiddleIntegrator`, each on one thread.

    Parameters
    ----------
    form
        See `forms`.
    workers
        Processes; 1 works in this process. They start at the first walk and end with `close`.
    """

    def __init__(self, form: Form, workers: int = 1):
        self.form, self.workers = form, workers
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) if workers > 1 else None

    def run(self, x: Floats, walk: Walk, seed: int = 0) -> Iterator[Walked]:
        """Walk from each of `x` (B, N, 3) nm and yield them in order; results do not depend on the workers."""
        # OpenMM takes zero for a seed of its own choice.
        seeds = 1 + np.random.SeedSequence(seed).generate_state(2 * len(x)) // np.uint32(2**2)
        task = partial(_walk, self.form, walk)
        mapped = map if self._pool is None else self._pool.map
        yield from mapped(task, list(x), seeds[::2].tolist(), seeds[1::2].tolist())

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _walk(form: Form, walk: Walk, x: Floats, noise_seed: int, velocity_seed: int) -> Walked:
    import openmm as mm

    system = mm.XmlSerializer.deserialize(form.system_xml)
    # Numbers without units are K, 1/ps and ps.
    integrator = mm.LangevinMiddleIntegrator(walk.temperature, walk.friction, walk.timestep)
    integrator.setRandomNumberSeed(noise_seed)
    properties = {"Threads": "1"} if form.platform == "CPU" else {}
    context = mm.Context(system, integrator, mm.Platform.getPlatformByName(form.platform), properties)
    context.setPositions(x)
    context.setVelocitiesToTemperature(walk.temperature, velocity_seed)
    context.getState(getEnergy=True, getForces=True)  # what the first evaluation prepares does not count
    positions, energy = np.empty((walk.frames, *x.shape)), np.empty(walk.frames)
    began = time.perf_counter()
    for frame in range(walk.frames):
        integrator.step(walk.every)
        state = context.getState(getPositions=True, getEnergy=True)
        positions[frame] = state.getPositions(asNumpy=True)._value
        energy[frame] = state.getPotentialEnergy()._value
    return Walked(positions, energy, time.perf_counter() - began)


def forms(system: System, masses: Floats) -> list[Form]:
    """Every way to run a system with other masses (N,) dalton and all its bonds flexible.

    They are the System as built and, where that is the same model, with `GBSAOBCForce`, each on both `PLATFORMS`.
    """
    import openmm as mm

    kinds = {"as shipped": system.openmm_system, "GBSAOBCForce": with_builtin_born(system)}
    found = []
    for kind, original in kinds.items():
        if original is None:
            continue
        copy = mm.XmlSerializer.clone(original)
        for index in reversed(range(copy.getNumConstraints())):
            copy.removeConstraint(index)
        for atom, mass in enumerate(masses):
            copy.setParticleMass(atom, float(mass))
        xml = mm.XmlSerializer.serialize(copy)
        found += [Form(xml, platform, f"{kind}, {platform} platform") for platform in PLATFORMS]
    return found


def fastest(system: System, masses: Floats, walk: Walk, steps: int = 40) -> tuple[Form, float]:
    """Return the form that does most steps per second on one core in a short trial, and how many."""
    trial = replace(walk, frames=1, every=steps)
    rates = {}
    for form in forms(system, masses):
        (walked,) = OpenMMDynamics(form).run(system.positions[None], trial)
        rates[form] = steps / walked.seconds
    best = max(rates, key=rates.__getitem__)
    return best, rates[best]
