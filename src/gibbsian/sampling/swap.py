"""Replica exchange in which the coldest replica may also jump to a draw of the proposal.

Ladders of replicas at rising temperatures move by exact kernels and swap with their neighbours. After each sweep the
coldest replica of a ladder is offered draws x' of the proposal, taken with min(1, w(x') / w(x)), w = exp(-u_ext) / q:
an independence Metropolis step. Its stationary distribution is the target whatever the proposal is: a poor one leaves
plain replica exchange, a good one nearly independent samples. One temperature without local moves is independence
Metropolis alone. All samples have equal weights; a ladder is one line of descent.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.dynamics.ladder import Swaps, first_swaps, statistical_inefficiency, swap_neighbours, temperature_ladder
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.errors import GibbsianError, InputError
from gibbsian.files import folder_of, write_array
from gibbsian.models.base import Proposal, SamplingProposal
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.progress import Report, silent
from gibbsian.sampling.bridge import Bridge, Coefficients, Particles, frozen
from gibbsian.sampling.importance import log_weight_numbers, log_weights, require_density, stream
from gibbsian.sampling.kernels import ACCEPTANCE, KERNELS, Kernel, KernelName, Move, StepRule, find_step, kernel_named
from gibbsian.sampling.resampling import draw_parents
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended

FORMAT = "gibbsian-swap-1"
STATE = "state.safetensors"
SPREAD = 0.1
"""Effective fraction of the draws among which the first replicas are chosen."""
MOST_PAIRS, COMPONENTS = 100, 3
"""Interatomic distances, and principal components of them, whose correlation in time is looked at."""
_SWAPS = ("walker_at", "attempted", "accepted", "came_from", "round_trips")
_CANDIDATES, _MOVES, _START = 1, 2, 3  # last entries of the keys of random streams


@dataclass(frozen=True)
class SwapSettings:
    """Replica exchange with a proposal.

    Attributes
    ----------
    ladders
        Independent ladders; error bars come from their differences.
    t_max, n_temperatures
        Top of the geometric ladder in K, and its size; None takes as many as an acceptance of 0.3 needs. One is no
        ladder.
    kernel, n_leapfrog, moves
        Local moves of every replica in each sweep, 0 for none: ``hmc``, ``mala`` or ``rwm``.
    step
        Their step in nm, found and adapted per temperature during equilibration if None.
    draws
        Draws of the proposal that are offered to each coldest replica in each sweep.
    equilibration
        Sweeps that are not kept.
    every
        Sweeps between samples.
    chunk
        Draws of the proposal that are made together; part of the result.
    """

    ladders: int = 16
    t_max: float = 600.0
    n_temperatures: int | None = None
    kernel: KernelName = "hmc"
    n_leapfrog: int = 20
    moves: int = 1
    step: float | None = None
    draws: int = 1
    equilibration: int = 500
    every: int = 5
    chunk: int = 1000

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS or self.kernel == "ula":
            raise InputError(f"exchange kernel: got {self.kernel!r}; choose hmc, mala or rwm, which are exact")
        for name in ("ladders", "t_max", "n_leapfrog", "draws", "every", "chunk"):
            if not getattr(self, name) > 0:
                raise InputError(f"exchange {name}: got {getattr(self, name)}; give a positive number")
        if self.moves < 0 or self.equilibration < 0:
            raise InputError(f"exchange moves, equilibration: got {self.moves}, {self.equilibration}; give >= 0")
        if self.step is not None and not self.step > 0:
            raise InputError(f"exchange step: got {self.step} nm; give a positive number, or None to find one")
        if self.n_temperatures is not None and self.n_temperatures < 1:
            raise InputError(f"exchange n_temperatures: got {self.n_temperatures}; give a positive number, or None")


@dataclass(frozen=True, eq=False)
class SwapState:
    """Replicas in motion, ladder-major (W = L K).

    Attributes
    ----------
    walkers
        Positions, u0 = -log_gauge, u1 = u, and gradients.
    swaps
        Who is at which temperature, with the history.
    log_w
        (L,) log weight of each coldest replica relative to the proposal, as far as it is known, else NaN.
    steps
        (K,) step of the local moves at each temperature, nm.
    sweep, taken, tried, calls
        Sweeps done; draws taken and offered after equilibration; conformations evaluated.
    local
        (K,) sum over kept sweeps of the mean acceptance of local moves.
    """

    walkers: Particles
    swaps: Swaps
    log_w: Tensor
    steps: Tensor
    local: Tensor
    sweep: int = 0
    taken: int = 0
    tried: int = 0
    calls: int = 0


@dataclass(frozen=True, eq=False)
class _Run:
    proposal: Proposal
    target: Target
    bridge: Bridge
    settings: SwapSettings
    beta: Tensor
    seed: int

    @property
    def block(self) -> int:
        """Sweeps that share a batch of draws, and end in a checkpoint."""
        return max(1, self.settings.chunk // (self.settings.ladders * self.settings.draws))


class Nothing:
    """A target without any energy."""

    def __init__(self, n_atoms: int) -> None:
        self.n_atoms = n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Zero for each of `x` (B, N, 3)."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Zero, and zero."""
        return self.u(x), torch.zeros_like(x)


def sample_exchange(
    proposal: SamplingProposal,
    target: Target,
    n: int,
    *,
    topology: Topology,
    temperature: float,
    settings: SwapSettings | None = None,
    folder: Path | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Ensemble:
    """Draw `n` correlated samples of the target, of equal weights.

    Parameters
    ----------
    proposal, target
        Generator with a density and the target at `temperature` (K), the lowest of the ladder.
    topology
        Goes into the ensemble.
    folder
        Where samples and checkpoints go; the same call continues with the bits of an undisturbed run, a larger `n`
        goes on, other settings start anew. None keeps nothing. The caller keys it by proposal and target.
    report
        Called after each block with ``draws_accepted=``; may raise `StoppedError`.

    Returns
    -------
    Ensemble
        Ladder by ladder in order of time, ``lineage`` the ladder. ``provenance`` has the acceptance of draws, of swaps
        and of local moves, the statistical inefficiency in samples of the slowest of u and three principal components
        of interatomic distances, and with it the number of ``effective`` ones.

    Raises
    ------
    InputError
        For a sampling-only proposal or impossible numbers.
    GibbsianError
        If no draw of the proposal has a finite weight to start from.
    """
    dense, settings = require_density(proposal, "replica exchange with a proposal"), settings or SwapSettings()
    if n < 1:
        raise InputError(f"replica exchange with a proposal: n = {n}; give a positive number")
    temperatures = temperature_ladder(temperature, settings.t_max, topology.n_atoms, settings.n_temperatures)
    beta = torch.tensor([temperature / t for t in temperatures], dtype=torch.float64)
    made_from = {"seed": seed, "n_atoms": topology.n_atoms, "temperatures": temperatures, "settings": asdict(settings)}
    place = None if folder is None else folder_of(folder, "exchange", made_from)
    goal = settings.equilibration + math.ceil(n / settings.ladders) * settings.every
    with frozen(dense), torch.no_grad():
        bridge = Bridge(Extended(Nothing(target.n_atoms), dense.log_gauge), target)
        run = _Run(dense, target, bridge, settings, beta, seed)
        state, frames = _resume(place, run)
        while state.sweep < goal:
            state, new = _block(run, state)
            frames.append(new)
            _save(place, state, new, len(frames) - 1)
            kept = max(0, state.sweep - settings.equilibration) // settings.every * settings.ladders
            report(min(kept, n), n, draws_accepted=state.taken / max(state.tried, 1))
        return _finish(run, state, frames, n, topology, temperature, temperatures)


Frames = tuple[NDArray[np.float32], NDArray[np.float64]]
"""Positions (L, F, N, 3) nm and u (L, F) of the coldest replicas."""


def _block(run: _Run, state: SwapState) -> tuple[SwapState, Frames]:
    """Sweeps with one batch of draws."""
    settings = run.settings
    key = (run.seed, state.sweep + 1)
    draws = torch.Generator().manual_seed(stream(*key, _CANDIDATES))
    shape = (run.block, settings.ladders, settings.draws)
    x, log_q = run.proposal.sample(math.prod(shape), draws)
    log_w = torch.from_numpy(log_weights(log_weight_numbers(run.proposal, run.target, x, log_q)))
    x, log_w = x.double().unflatten(0, shape), log_w.unflatten(0, shape)
    state = replace(state, calls=state.calls + math.prod(shape))
    generator = torch.Generator().manual_seed(stream(*key, _MOVES))
    positions, energies = [], []
    for sweep in range(run.block):
        state = _move(run, state, generator)
        state = replace(state, swaps=_swap(run, state, generator), sweep=state.sweep + 1)
        state = _offer(run, state, x[sweep], log_w[sweep], generator)
        kept = state.sweep - settings.equilibration
        if kept > 0 and kept % settings.every == 0:
            coldest = _coldest(state)
            positions.append(state.walkers.x[coldest].float())
            energies.append(state.walkers.u1[coldest])
    if not positions:
        empty = state.walkers.x[:0].float().reshape(settings.ladders, 0, *state.walkers.x.shape[1:])
        return state, (empty.numpy(), np.zeros((settings.ladders, 0)))
    return state, (torch.stack(positions, 1).numpy(), torch.stack(energies, 1).numpy())


def _coldest(state: SwapState) -> Tensor:
    """Index of the walker at the lowest temperature of each ladder, (L,)."""
    ladders, levels = state.swaps.walker_at.shape
    return torch.arange(ladders) * levels + state.swaps.walker_at[:, 0]


def _move(run: _Run, state: SwapState, generator: torch.Generator) -> SwapState:
    """Local moves of all walkers; steps are adapted during equilibration."""
    settings = run.settings
    if not settings.moves:
        return state
    level = state.swaps.level.flatten()
    at = Coefficients(1.0, run.beta[level])
    kernel, walkers = kernel_named(settings.kernel, settings.n_leapfrog), state.walkers
    before = run.bridge.calls
    acceptance = torch.zeros(len(run.beta), dtype=torch.float64)
    for _ in range(settings.moves):
        walkers, move = kernel(walkers, at, run.bridge, state.steps[level], generator)
        acceptance += _by_level(move, level, len(run.beta)) / settings.moves
    state = replace(state, walkers=walkers, calls=state.calls + run.bridge.calls - before)
    # The weights of the coldest replicas belong to where they were.
    state = replace(state, log_w=torch.full_like(state.log_w, torch.nan))
    if state.sweep >= settings.equilibration:
        return replace(state, local=state.local + acceptance)
    if settings.step is not None:
        return state
    rule = StepRule(ACCEPTANCE[settings.kernel], band=0.0, gain=2.0 / math.sqrt(state.sweep + 1))
    steps = [rule.next(float(s), float(a)) for s, a in zip(state.steps, acceptance, strict=True)]
    return replace(state, steps=torch.tensor(steps, dtype=torch.float64))


def _by_level(move: Move, level: Tensor, n_levels: int) -> Tensor:
    value = torch.nan_to_num(move.acceptance)
    return torch.zeros(n_levels, dtype=torch.float64).index_add(0, level, value) / (len(level) / n_levels)


def _swap(run: _Run, state: SwapState, generator: torch.Generator) -> Swaps:
    """Swap neighbours in temperature; the gauge, the same at every temperature, cancels."""
    energy = state.walkers.u1.reshape(state.swaps.walker_at.shape)
    return swap_neighbours(state.swaps, energy, run.beta, state.sweep, generator)


def _offer(run: _Run, state: SwapState, x: Tensor, log_w: Tensor, generator: torch.Generator) -> SwapState:
    """Offer draws x (L, draws, N, 3) with log weights (L, draws) to the coldest replicas, one after the other."""
    coldest = _coldest(state)
    present = state.log_w
    if len(run.beta) > 1 or bool(torch.isnan(present).any()):
        present = _log_w(run, state.walkers.take(coldest))
    chosen = torch.full((len(coldest),), -1)
    taken = 0
    for k in range(log_w.shape[1]):
        uniform = torch.rand(len(coldest), dtype=torch.float64, generator=generator)
        accept = torch.isfinite(log_w[:, k]) & ~(uniform.log() >= log_w[:, k] - present)
        chosen = torch.where(accept, k, chosen)
        present = torch.where(accept, log_w[:, k], present)
        taken += int(accept.sum())
    state = replace(state, log_w=present)
    if state.sweep > run.settings.equilibration:
        state = replace(state, taken=state.taken + taken, tried=state.tried + log_w.numel())
    moved = chosen >= 0
    if not bool(moved.any()):
        return state
    before = run.bridge.calls
    fresh = run.bridge.evaluate(x[moved, chosen[moved]], gradients=state.walkers.grad0 is not None)
    tensors = {name: value.clone() for name, value in state.walkers.tensors().items()}
    for name, value in fresh.tensors().items():
        tensors[name][coldest[moved]] = value
    return replace(state, walkers=Particles(**tensors), calls=state.calls + run.bridge.calls - before)


def _log_w(run: _Run, walkers: Particles) -> Tensor:
    """Log weights (B,) of walkers relative to the proposal; inf where the proposal has no density."""
    log_q = run.proposal.log_prob(walkers.x).detach().double()
    log_w = -walkers.u0 - walkers.u1 - log_q
    return torch.where(torch.isneginf(log_q) | torch.isnan(log_w), torch.inf, log_w)


def _begin(run: _Run) -> SwapState:
    """Start from draws of the proposal, resampled for each temperature."""
    settings, levels = run.settings, len(run.beta)
    generator = torch.Generator().manual_seed(stream(run.seed, 0, _START))
    x, log_q = run.proposal.sample(max(settings.chunk, settings.ladders), generator)
    u, log_q, log_gauge = log_weight_numbers(run.proposal, run.target, x, log_q)
    columns = []
    for k, beta in enumerate(run.beta.tolist()):
        log_w = log_weights(np.stack([beta * u, log_q, log_gauge]))
        if not np.isfinite(log_w).any():
            raise GibbsianError(
                f"replica exchange: none of {len(x)} draws of the proposal has a finite weight to start from; train it"
            )
        columns.append(draw_parents(_flattened(log_w), seed=stream(run.seed, k, 0, _START), n=settings.ladders))
    rows = torch.from_numpy(np.stack(columns, 1).ravel())
    gradients = settings.kernel != "rwm" and settings.moves > 0
    walkers = run.bridge.evaluate(x[rows], gradients=gradients)
    step = settings.step or 1e-3
    if settings.step is None and settings.moves:
        kernel: Kernel = kernel_named(settings.kernel, settings.n_leapfrog)
        at = Coefficients(1.0, run.beta.repeat(settings.ladders))
        step = find_step(kernel, walkers, at, run.bridge, StepRule(ACCEPTANCE[settings.kernel]), step, generator)
    return SwapState(
        walkers=walkers,
        swaps=first_swaps(settings.ladders, levels),
        log_w=torch.full((settings.ladders,), torch.nan, dtype=torch.float64),
        steps=torch.full((levels,), step, dtype=torch.float64),
        local=torch.zeros(levels, dtype=torch.float64),
        calls=run.bridge.calls + len(x),
    )


def _flattened(log_w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log weights times the largest power up to one that keeps enough effective draws: ladders must not start alike."""
    power, wanted = 1.0, SPREAD * np.isfinite(log_w).sum()
    finite = np.isfinite(log_w)
    while power > 1e-6 and ess(np.where(finite, power * np.where(finite, log_w, 0.0), -np.inf)) < wanted:
        power *= 0.8
    return np.where(finite, power * np.where(finite, log_w, 0.0), -np.inf)


def _finish(
    run: _Run,
    state: SwapState,
    frames: list[Frames],
    n: int,
    topology: Topology,
    temperature: float,
    temperatures: tuple[float, ...],
) -> Ensemble:
    positions = np.concatenate([part[0] for part in frames], axis=1)
    energies = np.concatenate([part[1] for part in frames], axis=1)
    ladders = run.settings.ladders
    per_ladder = math.ceil(n / ladders)
    positions, energies = positions[:, :per_ladder], energies[:, :per_ladder]
    inefficiency = _slowest(torch.from_numpy(positions), torch.from_numpy(energies))
    kept = max(state.sweep - run.settings.equilibration, 1)
    provenance: dict[str, Any] = {
        "method": "exchange",
        "seed": run.seed,
        "settings": asdict(run.settings),
        "temperatures": list(temperatures),
        "exact": True,
        "draws_acceptance": state.taken / max(state.tried, 1),
        "swap_acceptance": (state.swaps.accepted / state.swaps.attempted.clamp_min(1)).tolist(),
        "round_trips": int(state.swaps.round_trips.sum()),
        "local_acceptance": (state.local / kept).tolist() if run.settings.moves else [],
        "steps": state.steps.tolist(),
        "statistical_inefficiency": inefficiency,
        "effective": n / inefficiency,
        "energy_calls": state.calls,
    }
    # Ladders are cut short one by one where n is not a multiple of their number.
    lineage = np.repeat(np.arange(ladders), per_ladder)
    index = np.sort(np.argsort(np.tile(np.arange(per_ladder), ladders), kind="stable")[:n])
    return Ensemble(
        positions=positions.reshape(-1, *positions.shape[2:])[index],
        log_w=np.zeros(n),
        topology=topology,
        temperature=temperature,
        u=energies.ravel()[index],
        lineage=lineage[index],
        provenance=provenance,
    )


def _slowest(positions: Tensor, energies: Tensor) -> float:
    """Largest statistical inefficiency of u (L, F) and of the leading principal components of interatomic distances."""
    series = [energies]
    n_atoms = positions.shape[2]
    if n_atoms > 1:
        pairs = torch.combinations(torch.arange(n_atoms), 2)
        pairs = pairs[:: -(-len(pairs) // MOST_PAIRS)]
        flat = positions.reshape(-1, n_atoms, 3).double()
        distances = torch.linalg.vector_norm(flat[:, pairs[:, 0]] - flat[:, pairs[:, 1]], dim=-1)
        distances -= distances.mean(0)
        _, directions = torch.linalg.eigh(distances.T @ distances)
        series += list((distances @ directions[:, -COMPONENTS:]).T.reshape(-1, *energies.shape))
    return max(statistical_inefficiency(values) for values in series)


def _save(place: Path | None, state: SwapState, frames: Frames, index: int) -> None:
    """Write the samples of a block, then the state, which vouches for them."""
    if place is None:
        return
    write_array(place / f"positions-{index:05d}.npy", frames[0])
    write_array(place / f"energies-{index:05d}.npy", frames[1])
    tensors = {f"walkers.{name}": value for name, value in state.walkers.tensors().items()}
    tensors |= {f"swaps.{name}": getattr(state.swaps, name) for name in _SWAPS}
    tensors |= {name: getattr(state, name) for name in ("log_w", "steps", "local")}
    counters = {name: getattr(state, name) for name in ("sweep", "taken", "tried", "calls")}
    write_tensors(place / STATE, tensors, {"format": FORMAT, "blocks": index + 1, "counters": counters})


def _resume(place: Path | None, run: _Run) -> tuple[SwapState, list[Frames]]:
    if place is None or not (place / STATE).exists():
        return _begin(run), []
    tensors, header = read_tensors(place / STATE, FORMAT)
    state = SwapState(
        walkers=Particles(**{k.removeprefix("walkers."): v for k, v in tensors.items() if k.startswith("walkers.")}),
        swaps=Swaps(**{name: tensors[f"swaps.{name}"] for name in _SWAPS}),
        **{name: tensors[name] for name in ("log_w", "steps", "local")},
        **header["counters"],
    )
    try:
        frames = [
            (np.load(place / f"positions-{k:05d}.npy"), np.load(place / f"energies-{k:05d}.npy"))
            for k in range(header["blocks"])
        ]
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: damaged samples ({error}); delete the folder to make them anew") from error
    return state, frames
