"""Umbrella sampling: biased windows on one or two torsions, all in one batch.

Every window is simulated by several walkers. Walker r of all windows together are *copy* r: a complete and
independent umbrella simulation, with MBAR weights of its own, so that error bars follow from the differences
between copies.
"""

import dataclasses
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.dynamics.langevin import ABSURD, put_back, repartition, run_langevin, start
from gibbsian.dynamics.manifest import claim
from gibbsian.dynamics.pulling import pulled_starts
from gibbsian.dynamics.shards import MOTION, existing, motion_of, next_checkpoint, opened_checkpoint, save_chunk
from gibbsian.dynamics.umbrella_weights import load_umbrella
from gibbsian.dynamics.windows import Windows, torsion_atoms
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.potentials.base import Integrator, LangevinState, Potential
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread
from gibbsian.units import kt

_WINDOWS = {1: 24, 2: 18}


@dataclass(frozen=True)
class UmbrellaSettings:
    """Umbrella windows on one or two torsions.

    Attributes
    ----------
    torsions
        One or two names: residue number or label, and kind: ``("2:phi",)``, ``("ALA2:phi", "ALA2:psi")``. Kinds
        are phi, psi and chi1 to chi5.
    windows
        Along each torsion, on a regular periodic grid; None takes 24 for one torsion and 18 for each of two.
    k
        Bias k/2 (phi - centre)^2, kJ/mol/rad^2; None takes 4 kT / d^2 with the distance d between centres in rad.
        On a flat surface a window is then d/2 wide, and neighbours share 2 Phi(-1) = 32 % of their probability.
    copies
        Walkers in each window, at least 2: error bars come from the differences between them.
    steps, equilibration
        Steps of each walker that are kept and, before them, that are not.
    pull_steps
        Steps during which the bias moves from a start structure to the window.
    save_every, shard
        Steps between frames, and frames of each walker in one file and between checkpoints.
    timestep, friction, hydrogen_mass
        ps, 1/ps, dalton.
    start_temperature, start_steps
        Hot run (K, steps) that spreads the start structures.
    seed
        Any non-negative integer.
    """

    torsions: tuple[str, ...]
    windows: int | None = None
    k: float | None = None
    copies: int = 8
    steps: int = 200_000
    equilibration: int = 25_000
    pull_steps: int = 10_000
    save_every: int = 500
    shard: int = 10
    timestep: float = 0.002
    friction: float = 1.0
    hydrogen_mass: float = 4.0
    start_temperature: float = 1000.0
    start_steps: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.torsions) not in _WINDOWS or len(set(self.torsions)) < len(self.torsions):
            raise InputError(f"torsions: got {self.torsions}; give one or two different ones")
        for name in ("k", "steps", "pull_steps", "save_every", "shard", "timestep", "friction", "start_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: got {value}; give a positive number")
        for name, least in (("windows", 3), ("copies", 2), ("equilibration", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name}: got {value}; give at least {least}")

    def resolved(self, temperature: float) -> "UmbrellaSettings":
        """Return the same settings with windows and force constant written out."""
        windows = self.windows or _WINDOWS[len(self.torsions)]
        k = self.k or 4 * kt(temperature) / (2 * math.pi / windows) ** 2
        return replace(self, windows=windows, k=k)


@dataclass(frozen=True, eq=False)
class _State:
    """What changes: all walkers (copy-major), counters, random numbers; see `exchange.GroupState`."""

    motion: LangevinState
    good_x: Tensor
    step: int
    resets: int
    noise: torch.Generator


def windows_of(system: System, settings: UmbrellaSettings) -> Windows:
    """Return the windows of resolved settings.

    Raises
    ------
    InputError
        If the molecule has no such torsion.
    """
    assert settings.windows is not None
    assert settings.k is not None
    atoms = np.array([torsion_atoms(system.topology, name) for name in settings.torsions], dtype=np.int64)
    if len({tuple(row) for row in atoms}) < len(atoms):
        raise InputError(f"torsions: got {settings.torsions}, which are the same; give one or two different ones")
    return Windows(atoms, (settings.windows,) * len(atoms), np.full(len(atoms), settings.k))


def umbrella(
    system: System,
    settings: UmbrellaSettings,
    folder: str | Path | None = None,
    report: Report = silent,
    potential: Potential | None = None,
    threads: int | None = None,
) -> Ensemble:
    """Sample along one or two torsions in biased windows and weight the frames to the unbiased ensemble.

    The same call on the same folder continues where it was stopped, with the bits of an undisturbed run, and goes
    on if `steps` has grown.

    Parameters
    ----------
    system
        Molecule, force field and temperature.
    settings
        See `UmbrellaSettings`.
    folder
        Where shards and checkpoints go; None keeps nothing.
    report
        Called with walker steps done and to do, ns/day of aggregate dynamics, seconds left and the number of walkers
        that blew up, each time a chunk is saved; it may raise `StoppedError`.
    potential
        An engine that knows biased torsions; None makes a compiled one in float32.
    threads
        Of that engine; None takes all cores.

    Returns
    -------
    Ensemble at the system's temperature, copy by copy, window by window, each walker in order of time; `lineage` is
    the copy, and all copies weigh the same. `provenance` has settings and statistics, see `load_umbrella`.

    Raises
    ------
    InputError
        If the molecule has no such torsion, the compiled engine was not built, or the folder holds a different
        simulation or a damaged file.
    """
    settings = settings.resolved(system.temperature)
    windows = windows_of(system, settings)
    if potential is None:
        from gibbsian.potentials import potential as make_potential

        potential = make_potential(system, "compiled", dtype=torch.float32, threads=threads)
    manifest = describe(system, settings)
    with tempfile.TemporaryDirectory() if folder is None else existing(folder) as place, one_thread():
        path = Path(place)
        claim(path, manifest)
        _Run(path, system, settings, windows, potential).finish(report)
        return load_umbrella(path, manifest, system, windows)


def describe(system: System, settings: UmbrellaSettings) -> dict[str, Any]:
    """Return the manifest of a simulation: everything that decides its bits."""
    plain = {**dataclasses.asdict(settings), "torsions": list(settings.torsions)}
    return {"format": 1, "method": "umbrella", "system": dict(system.key), "n_atoms": system.n_atoms, "settings": plain}


class _Run:
    """All walkers with their engine, continuing from their folder."""

    def __init__(
        self, folder: Path, system: System, settings: UmbrellaSettings, windows: Windows, potential: Potential
    ) -> None:
        topology = system.topology
        masses = repartition(system.parameters.masses, topology.elements, topology.bonds, settings.hydrogen_mass)
        self._folder, self._settings, self._potential = folder, settings, potential
        self._system, self._windows = system, windows
        self._centres = torch.from_numpy(windows.centres).repeat(settings.copies, 1)
        self._kt = torch.full((len(self._centres),), kt(system.temperature), dtype=torch.float64)
        self._plain = Integrator(torch.from_numpy(masses), settings.timestep, settings.friction)
        self._biased = replace(self._plain, bias=windows.bias(self._centres))

    def finish(self, report: Report) -> None:
        """Go on until all frames are on disk."""
        settings, walkers = self._settings, len(self._centres)
        goal = settings.equilibration + math.ceil(settings.steps / settings.save_every) * settings.save_every
        state, shards = self._read() or self._begin()
        began, first = time.perf_counter(), state.step
        while state.step < goal:
            end = next_checkpoint(state.step, settings.equilibration, settings.save_every * settings.shard)
            state, frames = self._advance(state, min(end, goal))
            shards = self._save(state, frames, shards)
            rate = (state.step - first) / (time.perf_counter() - began)
            report(
                state.step * walkers,
                goal * walkers,
                ns_per_day=round(rate * walkers * settings.timestep * 86.4, 1),
                seconds_left=round((goal - state.step) / rate, 1),
                resets=state.resets,
            )

    def _begin(self) -> tuple[_State, int]:
        """Pull diverse structures into the windows."""
        noise = self._generator()
        x = pulled_starts(
            torch.as_tensor(self._system.positions, dtype=torch.float32),
            self._system.topology,
            self._windows,
            self._centres,
            self._potential,
            self._plain,
            noise,
            kt=self._kt,
            n_steps=self._settings.pull_steps,
            hot_temperature=self._settings.start_temperature,
            hot_steps=self._settings.start_steps,
        )
        motion = start(x, self._potential, self._plain.masses, self._kt, noise)
        state = _State(motion, motion.x.clone(), 0, 0, noise)
        return state, self._save(state, [], 0)

    def _advance(self, state: _State, end: int) -> tuple[_State, list[tuple[Tensor, Tensor]]]:
        """Run to step `end`; frames fall due every `save_every` steps after equilibration."""
        settings, frames = self._settings, []
        bound = ABSURD * 1.5 * self._system.n_atoms * float(self._kt[0])
        while state.step < end:
            n_steps = min(settings.save_every, end - state.step)
            motion = run_langevin(state.motion, self._potential, self._biased, self._kt, n_steps, state.noise)
            motion, good_x, n_bad = put_back(
                motion, state.good_x, bound, self._potential, self._plain.masses, self._kt, state.noise
            )
            # Drift would cost float32 digits, and no energy sees it.
            motion = replace(motion, x=motion.x - motion.x.mean(1, keepdim=True))
            state = _State(motion, good_x, state.step + n_steps, state.resets + n_bad, state.noise)
            if state.step > settings.equilibration:
                frames.append((motion.x, motion.energy.double()))
        return state, frames

    def _save(self, state: _State, frames: list[tuple[Tensor, Tensor]], shards: int) -> int:
        positions, energies = state.motion.x[:, None][:, :0], state.motion.energy[:, None][:, :0]
        if frames:
            positions, energies = (torch.stack(column, 1) for column in zip(*frames, strict=True))
        tensors = {name: getattr(state.motion, name) for name in MOTION}
        tensors |= {"good_x": state.good_x, "noise": state.noise.get_state()}
        arrays = {"positions": positions.numpy(), "energies": energies.numpy()}
        return save_chunk(self._folder, tensors, {"step": state.step, "resets": state.resets}, arrays, shards)

    def _read(self) -> tuple[_State, int] | None:
        with opened_checkpoint(self._folder) as saved:
            if saved is None:
                return None
            tensors, counters = saved
            noise = self._generator()
            noise.set_state(tensors["noise"])
            motion = motion_of(tensors, "cpu")
            state = _State(motion, tensors["good_x"], counters["step"], counters["resets"], noise)
            return state, counters["shards"]

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._settings.seed)
