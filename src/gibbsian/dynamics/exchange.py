"""Temperature replica exchange of many independent ladders in one batch.

A *group* is a batch of ladders with its own random numbers, files and checkpoint. Groups never speak to each
other, so results do not depend on how many of them run at the same time. Everything here is one group;
`simulate` runs them all.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.dynamics.ladder import Swaps, first_swaps, swap_neighbours, temperature_ladder
from gibbsian.dynamics.langevin import ABSURD, put_back, repartition, rigid_hydrogens, run_langevin, start
from gibbsian.dynamics.minimise import minimise
from gibbsian.dynamics.starts import diverse_starts
from gibbsian.errors import InputError
from gibbsian.potentials.base import Integrator, LangevinState, Potential
from gibbsian.units import kt


@dataclass(frozen=True)
class ExchangeSettings:
    """Replica exchange, or plain Langevin dynamics with one temperature.

    Attributes
    ----------
    temperatures
        K, rising, usually from the system's on; None makes a geometric ladder up to `t_max`.
    t_max, n_temperatures
        Top of that ladder, K, and its size; None takes as many as an acceptance of 0.3 needs. Above about 900 K
        peptide bonds turn within nanoseconds, and what turned stays.
    ladders
        Independent ladders; error bars come from their differences.
    groups
        Batches that the ladders are dealt to, each run by a process of its own.
    steps, equilibration
        Steps of each walker that are kept and, before them, that are not.
    exchange_every, save_every
        Steps between exchanges and between frames; the second is a multiple of the first.
    shard
        Frames of each walker in one file, and between checkpoints; None takes fewer for larger molecules, so
        that a checkpoint comes every few seconds.
    timestep, friction, hydrogen_mass
        ps, 1/ps, dalton.
    rigid_hydrogens
        Keep bonds to hydrogen at their force-field lengths, for steps of up to 4 fs. The distribution is then that of
        the rigid molecule, which differs from the System's: no data for weights.
    start_temperature, start_steps
        Hot run (K, steps) that spreads the start structures; 0 steps starts all from the system's structure.
    start_structure
        Share of the helices and strands of the system's structure that start structures keep. A folded protein stays
        folded with 0.8 and a start temperature of 400 K.
    seed
        Any non-negative integer.
    """

    temperatures: tuple[float, ...] | None = None
    t_max: float = 800.0
    n_temperatures: int | None = None
    ladders: int = 48
    groups: int = 2
    steps: int = 250_000
    equilibration: int = 50_000
    exchange_every: int = 50
    save_every: int = 250
    shard: int | None = None
    timestep: float = 0.002
    friction: float = 1.0
    hydrogen_mass: float = 4.0
    rigid_hydrogens: bool = False
    start_temperature: float = 1000.0
    start_steps: int = 5_000
    start_structure: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "ladders",
            "groups",
            "steps",
            "exchange_every",
            "save_every",
            "timestep",
            "friction",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: got {getattr(self, name)}; give a positive number")
        if self.shard is not None and self.shard < 1:
            raise InputError(f"shard: got {self.shard}; give a positive number, or None")
        for name in ("equilibration", "start_steps", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: got {getattr(self, name)}; give zero or more")
        if not 0.0 <= self.start_structure <= 1.0:
            raise InputError(f"start_structure: got {self.start_structure}; give a share from 0 to 1")
        if self.save_every % self.exchange_every or self.equilibration % self.exchange_every:
            raise InputError(
                f"save_every, equilibration: got {self.save_every} and {self.equilibration}; "
                f"give multiples of exchange_every ({self.exchange_every})"
            )
        if self.groups > self.ladders:
            raise InputError(f"groups: got {self.groups} for {self.ladders} ladders; give at most one per ladder")
        if self.temperatures is not None and np.any(np.diff((0.0, *self.temperatures)) <= 0):
            raise InputError(f"temperatures: got {self.temperatures}; give them positive and rising")

    def resolved(self, system: System) -> "ExchangeSettings":
        """Return the same settings with the temperatures and the shard length written out."""
        temperatures = self.temperatures or temperature_ladder(
            system.temperature, self.t_max, system.n_atoms, self.n_temperatures
        )
        shard = self.shard or int(np.clip(4000 / system.n_atoms**2, 1, 10))
        return replace(self, temperatures=tuple(float(t) for t in temperatures), shard=shard)

    def group_sizes(self) -> list[int]:
        """Ladders in each group."""
        return [len(part) for part in np.array_split(np.arange(self.ladders), self.groups)]


@dataclass(frozen=True, eq=False)
class Group:
    """What a group of ladders needs and does not change: settings, physics, devices."""

    settings: ExchangeSettings
    temperatures: tuple[float, ...]
    ladders: int
    potential: Potential
    integrator: Integrator

    @property
    def kt_levels(self) -> Tensor:
        """(K,) thermal energies, kJ/mol."""
        return torch.tensor([kt(t) for t in self.temperatures], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class GroupState:
    """What changes: walkers (ladder-major, W = L K), temperatures, counters, random numbers.

    Attributes
    ----------
    motion
        Positions, velocities, energies and forces of all walkers.
    good_x
        (W, N, 3) nm, the last positions at which each walker was sound.
    swaps
        Temperatures and exchange history.
    step, resets
        Steps done, equilibration included; walkers that blew up and were put back.
    noise, choice
        Generators of the motion (on the device) and of the exchanges (CPU).
    """

    motion: LangevinState
    good_x: Tensor
    swaps: Swaps
    step: int
    resets: int
    noise: torch.Generator
    choice: torch.Generator


@dataclass(frozen=True, eq=False)
class Frames:
    """A stretch of trajectories: positions (W, F, N, 3) nm float32, energy (W, F) kJ/mol, level (W, F)."""

    positions: Tensor
    energy: Tensor
    level: Tensor


def make_group(system: System, settings: ExchangeSettings, index: int, potential: Potential, device: str) -> Group:
    """Set up group `index` of resolved settings."""
    if settings.temperatures is None:
        raise ValueError("settings must be resolved first")
    masses = repartition(
        system.parameters.masses, system.topology.elements, system.topology.bonds, settings.hydrogen_mass
    )
    rigid = rigid_hydrogens(system.topology.elements, system.parameters.bonds) if settings.rigid_hydrogens else None
    integrator = Integrator(torch.as_tensor(masses, device=device), settings.timestep, settings.friction, rigid)
    return Group(settings, settings.temperatures, settings.group_sizes()[index], potential, integrator)


def generators(seed: int, group: int, device: str) -> tuple[torch.Generator, torch.Generator]:
    """Independent generators of one group for motion (on `device`) and exchange (CPU)."""
    noise, choice = np.random.SeedSequence([seed, group]).generate_state(2, np.uint64) >> np.uint64(1)
    return torch.Generator(device).manual_seed(int(noise)), torch.Generator().manual_seed(int(choice))


def begin(group: Group, system: System, index: int, device: str) -> GroupState:
    """Spread start structures, draw velocities, put walker k of each ladder at temperature k."""
    settings = group.settings
    noise, choice = generators(settings.seed, index, device)
    n_walkers = group.ladders * len(group.temperatures)
    first = torch.as_tensor(system.positions, dtype=torch.float32, device=device)
    if settings.start_steps:
        x = diverse_starts(
            first,
            n_walkers,
            system.topology,
            group.potential,
            group.integrator,
            noise,
            temperature=settings.start_temperature,
            n_steps=settings.start_steps,
            structure=settings.start_structure,
        )
    else:
        x = minimise(first[None], group.potential)[0].repeat(n_walkers, 1, 1)
    thermal = group.kt_levels.repeat(group.ladders).to(device)
    motion = start(x, group.potential, group.integrator.masses, thermal, noise)
    swaps = first_swaps(group.ladders, len(group.temperatures))
    return GroupState(motion, motion.x.clone(), swaps, 0, 0, noise, choice)


def advance(group: Group, state: GroupState, n_blocks: int) -> tuple[GroupState, Frames]:
    """Run `n_blocks` times `exchange_every` steps, each followed by a health check and an exchange.

    Returns the new state and the frames that fell due (none during equilibration).
    """
    settings, frames = group.settings, []
    for _ in range(n_blocks):
        thermal = _kt_of_walkers(group, state)
        motion = run_langevin(
            state.motion, group.potential, group.integrator, thermal, settings.exchange_every, state.noise
        )
        state = replace(state, motion=motion, step=state.step + settings.exchange_every)
        state = _exchange(group, _heal(group, state, thermal))
        kept = state.step - settings.equilibration
        if kept > 0 and kept % settings.save_every == 0:
            state = _centred(state)
            frames.append((state.motion.x.cpu(), state.motion.energy.cpu().double(), state.swaps.level.flatten()))
    return state, _stack(frames, state.motion.x)


def _kt_of_walkers(group: Group, state: GroupState) -> Tensor:
    return group.kt_levels[state.swaps.level].flatten().to(state.motion.x.device)


def _heal(group: Group, state: GroupState, thermal: Tensor) -> GroupState:
    """Put walkers that blew up back to their last sound positions, with new velocities."""
    bound = ABSURD * 1.5 * state.motion.x.shape[1] * float(group.kt_levels[-1])
    motion, good_x, n_bad = put_back(
        state.motion, state.good_x, bound, group.potential, group.integrator.masses, thermal, state.noise
    )
    return replace(state, motion=motion, good_x=good_x, resets=state.resets + n_bad)


def _exchange(group: Group, state: GroupState) -> GroupState:
    """Swap neighbours and rescale the velocities of those that moved."""
    shape = state.swaps.walker_at.shape
    energy = state.motion.energy.cpu().double().reshape(shape)
    parity = state.step // group.settings.exchange_every
    swaps = swap_neighbours(state.swaps, energy, 1.0 / group.kt_levels, parity, state.choice)
    scale = (group.kt_levels[swaps.level] / group.kt_levels[state.swaps.level]).sqrt().flatten()
    v = state.motion.v * scale.to(state.motion.v)[:, None, None]
    return replace(state, motion=replace(state.motion, v=v), swaps=swaps)


def _centred(state: GroupState) -> GroupState:
    """Move every walker's centroid to the origin: drift would cost float32 digits, and no energy sees it."""
    x = state.motion.x - state.motion.x.mean(1, keepdim=True)
    return replace(state, motion=replace(state.motion, x=x), good_x=x.clone())


def _stack(frames: list[tuple[Tensor, Tensor, Tensor]], x: Tensor) -> Frames:
    if not frames:
        return no_frames(x)
    positions, energy, level = (torch.stack(column, 1) for column in zip(*frames, strict=True))
    return Frames(positions, energy, level)


def no_frames(x: Tensor) -> Frames:
    """Return an empty stretch of trajectory for walkers at `x` (W, N, 3)."""
    n, atoms = x.shape[:2]
    return Frames(torch.empty(n, 0, atoms, 3), torch.empty(n, 0).double(), torch.empty(n, 0, dtype=torch.long))
