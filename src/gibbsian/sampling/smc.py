"""Annealed sequential Monte Carlo from a proposal to a target.

For levels 0 = t_0 < ... < t_K = 1 of a path of energies U_t between u0 = -log q and u1 = u_ext, from draws of q::

    1. log w += U_{t_(k-1)}(x) - U_{t_k}(x)                        (K increments, that to t = 1 included)
    2. if the effective sample size is below a threshold and k < K: resample, log w = 0
    3. move with a kernel that leaves exp(-U_{t_k}) invariant

The weights of the end are returned as they are, times the normalisation that resampling took out, so that their mean
is Z. Each particle knows the draw that it descends from; error bars treat one such line as one sample.
(Annealed importance sampling, Statistics and Computing 11, 125 (2001); arXiv 2502.18462, algorithm 1.)
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import Scheme, ess
from gibbsian.errors import InputError
from gibbsian.files import folder_of
from gibbsian.models.base import LatentProposal, Proposal, SamplingProposal
from gibbsian.parallel.group import first_does, in_step
from gibbsian.progress import Report, silent
from gibbsian.sampling.bridge import Bridge, Coefficients, Particles, ProposalEnergy, frozen, join
from gibbsian.sampling.importance import require_density, stream
from gibbsian.sampling.kernels import (
    ACCEPTANCE,
    Kernel,
    Move,
    StepRule,
    find_step,
    kernel_named,
    mean_acceptance,
    regen,
)
from gibbsian.sampling.resampling import Ancestry, ancestry, draw_parents
from gibbsian.sampling.schedule import coefficients, increment, next_time
from gibbsian.sampling.shards import in_shards, within_memory
from gibbsian.sampling.smc_state import LATEST, START, SmcSettings, SmcState, read_state, write_state
from gibbsian.sampling.truncation import Cut, Truncated, clip_weights, clipped, find_cut
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended

PILOT = 256
MOST_DRAWS = 10_000
"""Draws of the proposal that are kept as they were, to be shown beside the result."""
FIRST_STEP = 1e-3
_MOVES, _PILOT, _RESAMPLING = 1, 2, 3  # last entries of the keys of random streams; those of the draws end in zero


@dataclass(frozen=True, eq=False)
class _Run:
    """What does not change: physics, settings, seed."""

    proposal: Proposal
    bridge: Bridge
    settings: SmcSettings
    seed: int

    def at(self, t: float) -> Coefficients:
        return coefficients(t, self.settings.interpolant, self.settings.coolest)

    @property
    def latent(self) -> LatentProposal | None:
        wanted = self.settings.regen is not None and isinstance(self.proposal, LatentProposal)
        return self.proposal if wanted and isinstance(self.proposal, LatentProposal) else None


def sample_smc(
    proposal: SamplingProposal,
    target: Target,
    n: int,
    *,
    topology: Topology,
    temperature: float,
    settings: SmcSettings | None = None,
    folder: Path | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Ensemble:
    """Draw `n` particles from a proposal and anneal them to a target.

    The processes that torchrun starts share the chunks of particles; weights, resampling and steps are those of all
    particles, and the result does not depend on the number of processes.

    Parameters
    ----------
    proposal, target
        Generator with a density and the target at `temperature` (K).
    topology
        Goes into the ensemble.
    folder
        Where checkpoints go; the same call continues from the last one with the bits of an undisturbed run, and
        other settings start anew. None keeps nothing. The caller keys it by proposal and target.
    report
        Called after each level with ``ess=`` and ``ancestors=`` (effective); may raise `StoppedError`.

    Returns
    -------
    Ensemble
        With ``lineage``, ``u`` and ``log_q`` of the final positions. ``provenance`` has a record of each level
        (t, ESS, resampled, acceptance, steps, unique and effective ancestors, log Z so far), the ESS of the plain
        importance weights as ``proposal_ess``, the effective number of ancestors as ``effective``, and ``exact``.
        ``draws`` has the first of the proposal's draws with their importance weights, at most `MOST_DRAWS`.

    Raises
    ------
    InputError
        For a sampling-only proposal, impossible numbers, or a damaged checkpoint.
    """
    dense, settings = require_density(proposal, "sequential Monte Carlo"), settings or SmcSettings()
    if n < 1:
        raise InputError(f"sequential Monte Carlo: n = {n}; give a positive number")
    made_from = {"n": n, "seed": seed, "n_atoms": topology.n_atoms, "settings": asdict(settings)}
    place = None if folder is None else first_does(partial(folder_of, folder, "smc", made_from))
    report = in_step(report)
    with frozen(dense):
        drawn = read_state(place, START)
        run = _Run(dense, Bridge(ProposalEnergy(dense), Extended(target, dense.log_gauge)), settings, seed)
        if drawn is None:
            drawn = _draw(run, n)
            write_state(place, START, drawn)
        run, first, cut, start_clip = _restrict(run, target, drawn)
        state = read_state(place, LATEST) or first
        while state.t < 1.0:
            state = advance(run, state)
            if state.level % settings.checkpoint_every == 0 or state.t == 1.0:
                write_state(place, LATEST, state)
            _tell(state, report)
        found = _finish(run, state, first, cut, start_clip, topology, temperature)
        return replace(found, draws=_draws(run, drawn, topology, temperature))


def _tell(state: SmcState, report: Report) -> None:
    record, n = state.history[-1], len(state.log_w)
    report(round(state.t * n), n, ess=record["ess"] * n, ancestors=record["effective_ancestors"], level=state.level)


def advance(run: _Run, state: SmcState) -> SmcState:
    """One level: reweight, resample if that is due, move."""
    settings, n = run.settings, len(state.log_w)
    t = next_time(
        state.particles,
        state.log_w,
        state.t,
        levels_left=settings.levels - state.level,
        wanted=settings.conditional_ess,
        interpolant=settings.interpolant,
        coolest=settings.coolest,
    )
    log_w = state.log_w + increment(state.particles, run.at(state.t), run.at(t))
    level = state.level + 1
    state = replace(state, log_w=log_w, t=t, level=level)
    fraction = ess(log_w.numpy()) / n
    found = ancestry(state.full_log_w, state.ancestors.numpy())
    due = 0 < fraction < settings.threshold and t < 1.0
    if due:
        state = _resampled(state, settings.scheme, stream(run.seed, level, 0, _RESAMPLING))
    before = run.bridge.calls
    state, moves = (state, {}) if fraction == 0 else _moved(run, state)
    record = {"t": t, "ess": fraction, "resampled": due, **_described(found), **moves}
    return replace(state, history=(*state.history, record), calls=state.calls + run.bridge.calls - before)


def _resampled(state: SmcState, scheme: Scheme, seed: int) -> SmcState:
    parents = torch.from_numpy(draw_parents(state.log_w.numpy(), seed=seed, scheme=scheme))
    taken = float(torch.logsumexp(state.log_w, 0)) - math.log(len(state.log_w))
    return replace(
        state,
        particles=state.particles.take(parents),
        ancestors=state.ancestors[parents],
        log_w=torch.zeros_like(state.log_w),
        log_z=state.log_z + taken,
    )


def _moved(run: _Run, state: SmcState) -> tuple[SmcState, dict[str, Any]]:
    """Move all particles, chunk by chunk, and adapt the steps."""
    at, settings = run.at(state.t), run.settings
    steps = _first_steps(run, state, at) if state.level == 1 else state.steps
    before = run.bridge.calls
    chunks = in_shards(range(math.ceil(len(state.log_w) / settings.chunk)), partial(_move_chunk, run, state, at, steps))
    run.bridge.calls = before + sum(calls for _, calls in chunks)
    pieces = [piece for found, _ in chunks for piece in found]
    local = [move for piece in pieces for move in piece.local]
    global_ = [move for piece in pieces for move in piece.anew]
    record: dict[str, Any] = {}
    if local:
        n_atoms = state.particles.x.shape[1]
        moved = math.sqrt(sum(piece.distance for piece in pieces) / (len(state.log_w) * n_atoms))
        acceptance = mean_acceptance(*local)
        record |= {"acceptance": acceptance, "step": steps[0], "displacement_nm": moved}
        if settings.step is None:
            steps = (StepRule(ACCEPTANCE[settings.kernel]).next(steps[0], acceptance), steps[1])
    if global_:
        acceptance = mean_acceptance(*global_)
        record |= {"regen_acceptance": acceptance, "regen_step": steps[1]}
        steps = (steps[0], _REGEN_RULE.next(steps[1], acceptance))
    return replace(state, particles=join([piece.particles for piece in pieces]), steps=steps), record


class _Piece(NamedTuple):
    """Some particles after their moves, what the moves did, and the sum of the squared displacements in nm^2."""

    particles: Particles
    local: list[Move]
    anew: list[Move]
    distance: float


def _move_chunk(
    run: _Run, state: SmcState, at: Coefficients, steps: tuple[float, float], index: int
) -> tuple[list[_Piece], int]:
    """Move one chunk, in pieces if it does not fit the memory; also return how many conformations it evaluated."""
    before, start = run.bridge.calls, index * run.settings.chunk
    chunk = state.particles.take(slice(start, start + run.settings.chunk))

    def some(rows: slice) -> _Piece:
        key = (run.seed, state.level, index, _MOVES, *((rows.start,) if rows.start else ()))
        return _move(run, chunk.take(rows), at, steps, torch.Generator().manual_seed(stream(*key)))

    pieces = within_memory(len(chunk), some, "sequential Monte Carlo")
    return pieces, run.bridge.calls - before


def _move(
    run: _Run, part: Particles, at: Coefficients, steps: tuple[float, float], generator: torch.Generator
) -> _Piece:
    kernel = kernel_named(run.settings.kernel, run.settings.n_leapfrog)
    x, local, anew = part.x, [], []
    for _ in range(run.settings.moves):
        part, move = kernel(part, at, run.bridge, steps[0], generator)
        local.append(move)
    distance = float((part.x - x).square().sum())
    if run.latent is not None:
        part, move = _regen(run)(part, at, run.bridge, steps[1], generator)
        anew.append(move)
    return _Piece(part, local, anew, distance)


_REGEN_RULE = StepRule(ACCEPTANCE["regen"], least=1e-3, most=1.0)


def _regen(run: _Run) -> Kernel:
    assert run.latent is not None
    assert run.settings.regen is not None
    return partial(regen, proposal=run.latent, form=run.settings.regen)


def _first_steps(run: _Run, state: SmcState, at: Coefficients) -> tuple[float, float]:
    """Find steps on some of the particles, which stay where they are."""
    settings = run.settings
    some = torch.nonzero(torch.isfinite(state.log_w))[:PILOT, 0]
    pilot = state.particles.take(some[: settings.chunk])
    generator = torch.Generator().manual_seed(stream(run.seed, 0, 0, _PILOT))
    step, share = settings.step or FIRST_STEP, 1.0
    if settings.step is None and settings.moves:
        kernel = kernel_named(settings.kernel, settings.n_leapfrog)
        step = find_step(kernel, pilot, at, run.bridge, StepRule(ACCEPTANCE[settings.kernel]), step, generator)
    if run.latent is not None:
        share = find_step(_regen(run), pilot, at, run.bridge, _REGEN_RULE, 1.0, generator)
    return step, share


def _draw(run: _Run, n: int) -> SmcState:
    """Particles from the proposal, drawn as importance sampling with the same seed and chunk draws them."""
    chunk = run.settings.chunk

    def drawn(index: int) -> Particles:
        def some(rows: slice) -> Particles:
            generator = torch.Generator().manual_seed(stream(run.seed, index, rows.start))
            with torch.no_grad():
                x, log_q = run.proposal.sample(rows.stop - rows.start, generator)
            return run.bridge.with_log_q(x, log_q)

        return join(within_memory(chunk, some, "sequential Monte Carlo"))

    chunks = in_shards(range(math.ceil(n / chunk)), drawn)
    zeros = torch.zeros(n, dtype=torch.float64)
    steps = (FIRST_STEP, 1.0)
    particles, calls = join(chunks).take(slice(0, n)), chunk * len(chunks)
    return SmcState(particles, zeros, torch.arange(n), 0.0, 0.0, 0, steps, (), calls)


def _restrict(run: _Run, target: Target, drawn: SmcState) -> tuple[_Run, SmcState, Cut | None, dict[str, Any] | None]:
    """Apply truncation, to particles and to the path, and clipping of the first weights."""
    particles, truncation = drawn.particles, run.settings.truncation
    log_gauge = run.proposal.log_gauge(particles.x).detach().double()
    u, log_q = (particles.u1 + log_gauge).numpy(), -particles.u0.numpy()
    log_w = increment(particles, run.at(0.0), run.at(1.0)).numpy()
    cut = find_cut(truncation, u, log_q, log_w)
    if cut is not None:
        kept = torch.from_numpy(cut.keeps(u, log_q))
        particles = replace(particles, u1=torch.where(kept, particles.u1, torch.inf))
        second = Extended(Truncated(target, cut.max_u), run.proposal.log_gauge)
        run = replace(run, bridge=Bridge(run.bridge.first, second, most_u0=-cut.min_log_q))
        log_w = np.where(kept.numpy(), log_w, -np.inf)
    first, notes = torch.where(torch.from_numpy(np.isfinite(log_w)), drawn.log_w, -torch.inf), None
    if truncation.clip and run.settings.clip_at == "start":
        after, count = clip_weights(log_w, truncation.clip, truncation.clip_how)
        # What clipping takes from the final weight is taken at once; the increments then run as ever.
        first = torch.where(
            torch.isfinite(first), torch.from_numpy(after - np.where(np.isfinite(log_w), log_w, 0)), first
        )
        notes = {"fraction": truncation.clip, "how": truncation.clip_how, "count": count, "at": "start"}
        notes["ess_unclipped"] = ess(log_w)
    return run, replace(drawn, particles=particles, log_w=first), cut, notes


def _finish(
    run: _Run,
    state: SmcState,
    first: SmcState,
    cut: Cut | None,
    start_clip: dict[str, Any] | None,
    topology: Topology,
    temperature: float,
) -> Ensemble:
    particles, log_w = state.particles, state.full_log_w
    log_gauge = run.proposal.log_gauge(particles.x).detach().double()
    found = ancestry(log_w, state.ancestors.numpy())
    plain = first.log_w + increment(first.particles, run.at(0.0), run.at(1.0))
    provenance: dict[str, Any] = {
        "method": "smc",
        "seed": run.seed,
        "settings": asdict(run.settings),
        "levels": list(state.history),
        "exact": run.settings.kernel != "ula" or run.settings.moves == 0,
        "ancestors": len(log_w),
        "unique_ancestors": found.unique,
        "effective": found.effective,
        "proposal_ess": ess(plain.numpy()),
        "non_finite": int((~np.isfinite(log_w)).sum()),
        "energy_calls": state.calls,
    }
    if cut is not None:
        provenance["truncation"] = cut.notes
    if start_clip is not None:
        provenance["clipping"] = start_clip
    ensemble = Ensemble(
        positions=np.nan_to_num(particles.x.numpy()).astype(np.float32),
        log_w=log_w,
        topology=topology,
        temperature=temperature,
        u=(particles.u1 + log_gauge).numpy(),
        log_q=-particles.u0.numpy(),
        lineage=state.ancestors.numpy(),
        provenance=provenance,
    )
    if run.settings.clip_at == "end":
        return clipped(ensemble, run.settings.truncation.clip, run.settings.truncation.clip_how)
    return ensemble


def _draws(run: _Run, drawn: SmcState, topology: Topology, temperature: float) -> Ensemble:
    """Return some draws of the proposal before truncation and moves."""
    particles = drawn.particles.take(slice(0, MOST_DRAWS))
    log_gauge = run.proposal.log_gauge(particles.x).detach().double()
    return Ensemble(
        positions=particles.x.numpy().astype(np.float32),
        log_w=increment(particles, run.at(0.0), run.at(1.0)).numpy(),
        topology=topology,
        temperature=temperature,
        u=(particles.u1 + log_gauge).numpy(),
        log_q=-particles.u0.numpy(),
        provenance={"method": "proposal", "seed": run.seed},
    )


def _described(found: Ancestry) -> dict[str, Any]:
    value, error = found.log_z
    return {
        "unique_ancestors": found.unique,
        "effective_ancestors": found.effective,
        "log_z": value if math.isfinite(value) else None,
        "log_z_error": error if math.isfinite(error) else None,
    }
