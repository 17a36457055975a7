"""Self-normalised importance sampling in chunks that survive an interruption.

    x_i ~ q,   log w_i = -u_ext(x_i) - log q(x_i),   u_ext = u - log_gauge,   <f> = sum w_i f(x_i) / sum w_i

and Z is the mean weight. Chunk i draws from its own random stream, seeded with (seed, i), and is written to
disk when done; a chunk that is there is read, so an interrupted run gives the same bytes as an undisturbed one.

Energies, log q and with them the weights belong to the float64 coordinates that the proposal returned; the
ensemble keeps these rounded to float32 (1e-8 to 1e-7 nm), which moves an energy by about 1e-4 kT.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.files import make_folder, read_json, write_array, write_json
from gibbsian.models.base import Proposal, SamplingProposal
from gibbsian.parallel.group import first_does, in_step
from gibbsian.parallel.group import size as processes
from gibbsian.progress import Report, silent
from gibbsian.sampling.shards import in_shards, within_memory
from gibbsian.targets.base import Target

SETTINGS = "chunks.json"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive samples of a run.

    Attributes
    ----------
    positions
        (m, n_atoms, 3) nm, float32; coordinates that were not finite are zero (their weight is zero too).
    numbers
        (3, m) float64: u, log_q and log_gauge as computed, finite or not.
    """

    positions: NDArray[np.float32]
    numbers: NDArray[np.float64]


def require_density(proposal: SamplingProposal, method: str, *, drawn: bool = False) -> Proposal:
    """Return the proposal if it can say how likely its samples are, else refuse it.

    Parameters
    ----------
    drawn
        The density of each draw as it is drawn suffices. That of an augmented flow, whose ``density`` is not ``exact``,
        is a joint one with auxiliary variables, or an estimate.

    Raises
    ------
    InputError
        Naming the proposal and the method.
    """
    if not isinstance(proposal, Proposal):
        raise InputError(
            f"{method}: {type(proposal).__name__} can only be sampled, it has no density, so its samples "
            "cannot be weighted; choose a recipe with an exact density"
        )
    if not drawn and getattr(proposal, "density", "exact") != "exact":
        raise InputError(
            f"{method}: {type(proposal).__name__} knows the density of a conformation only together with auxiliary "
            "variables, or by an estimate; choose snis, or another recipe"
        )
    return proposal


def sample_snis(
    proposal: SamplingProposal,
    target: Target,
    n: int,
    *,
    topology: Topology,
    temperature: float,
    folder: Path | None = None,
    seed: int = 0,
    chunk: int = 1000,
    until_ess: float | None = None,
    n_max: int | None = None,
    report: Report = silent,
) -> Ensemble:
    """Draw `n` weighted samples of a target, or more until their effective number is large enough.

    The processes that torchrun starts share the chunks; the result does not depend on their number.

    Parameters
    ----------
    proposal, target
        Generator with a density and the target at `temperature` (K).
    topology
        Goes into the ensemble.
    folder
        Where chunks are kept for resuming and topping up; None keeps nothing. The caller keys it by
        proposal and target; seed, chunk and number of atoms are checked here.
    seed, chunk
        Random seed and samples per chunk; the result depends on both. Whole chunks are drawn and `n`
        returned.
    until_ess
        Go on in chunks after `n` samples until this effective number is reached, or `n_max` samples are drawn.
    report
        Called after each chunk with ``ess=``; may raise `StoppedError`.

    Returns
    -------
    Ensemble
        With ``u``, ``log_q`` and weights; non-finite energies, densities and coordinates have weight zero and
        are counted in ``provenance["non_finite"]``. For an augmented flow, ``provenance["density"]`` is ``joint``
        (the weights are exact) or ``estimate`` (they are biased, and ``provenance["exact"]`` is false). Handedness
        is not looked at.

    Raises
    ------
    InputError
        For a sampling-only proposal, impossible numbers, or a folder of another run.
    OutOfMemoryError
        If not even one conformation at a time fits.
    """
    dense = require_density(proposal, "importance sampling", drawn=True)
    limit = _limit(n, chunk, until_ess, n_max)
    if folder is not None:
        made_from = {"seed": seed, "chunk": chunk, "n_atoms": topology.n_atoms}
        first_does(partial(_claim, folder, made_from))
    report = in_step(report)
    chunks: list[Chunk] = []
    log_w: list[NDArray[np.float64]] = []
    drawn = 0
    for found in _chunks(dense, target, folder, seed, chunk, math.ceil(limit / chunk)):
        chunks.append(found)
        drawn = min(drawn + chunk, limit)
        log_w.append(log_weights(chunks[-1].numbers))
        effective = ess(np.concatenate(log_w)[:drawn])
        report(drawn, max(n, drawn), ess=effective)
        if until_ess is not None and drawn >= n and effective >= until_ess:
            break
    return _assemble(chunks, drawn, topology, temperature, seed, getattr(dense, "density", "exact"))


def _chunks(
    proposal: Proposal, target: Target, folder: Path | None, seed: int, size: int, count: int
) -> Iterator[Chunk]:
    """Chunks in their order; each process draws every so-many-th of them."""
    work = partial(_chunk, proposal, target, folder, seed, size=size)
    for start in range(0, count, processes()):
        yield from in_shards(range(start, min(start + processes(), count)), work)


def log_weights(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log weights (m,) from u, log_q and log_gauge (3, m); -inf wherever one of them is not finite."""
    finite = np.isfinite(numbers).all(axis=0)
    u, log_q, log_gauge = np.where(finite, numbers, 0.0)
    return np.where(finite, log_gauge - u - log_q, -np.inf)


def log_weight_numbers(proposal: Proposal, target: Target, x: Tensor, log_q: Tensor) -> NDArray[np.float64]:
    """Return u, log_q and log_gauge (3, m) of `x` (m, n_atoms, 3) nm, float64."""
    x = x.double()
    parts = (target.u(x), log_q, proposal.log_gauge(x))
    return torch.stack([part.detach().double().cpu() for part in parts]).numpy()


def _limit(n: int, chunk: int, until_ess: float | None, n_max: int | None) -> int:
    """Most samples to draw: `n`, or, with an effective number to reach, `n_max` (by default 10 n)."""
    if n < 1 or chunk < 1:
        raise InputError(f"importance sampling: n = {n}, chunk = {chunk}; give positive numbers")
    if until_ess is None:
        return n
    limit = 10 * n if n_max is None else n_max
    if limit < n or until_ess > limit:
        raise InputError(
            f"importance sampling: {until_ess:g} effective of at most {limit} samples, at least {n}; raise n_max"
        )
    return limit


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Make the folder this run's, or check that it is."""
    path = folder / SETTINGS
    if path.exists():
        found = read_json(path)
        if found != settings:
            raise InputError(f"{path}: samples of {found}, now {settings}; use another folder or the same settings")
        return
    make_folder(folder)
    write_json(path, settings)


def _chunk(proposal: Proposal, target: Target, folder: Path | None, seed: int, index: int, size: int) -> Chunk:
    """Chunk number `index`, read from the folder if it is there, else drawn and written."""
    if folder is None:
        return _draw_within_memory(proposal, target, seed, index, size)
    positions, numbers = folder / f"positions-{index:05d}.npy", folder / f"numbers-{index:05d}.npy"
    # The numbers are written last: where they are, the positions are complete.
    if numbers.exists() and positions.exists():
        stored = _read(positions, numbers, size, target.n_atoms)
        if stored is not None:
            return stored
    drawn = _draw_within_memory(proposal, target, seed, index, size)
    write_array(positions, drawn.positions)
    write_array(numbers, drawn.numbers)
    return drawn


def _read(positions: Path, numbers: Path, size: int, n_atoms: int) -> Chunk | None:
    """Read a stored chunk; None where the files are damaged, so that it is drawn again."""
    try:
        found = Chunk(np.load(positions, allow_pickle=False), np.load(numbers, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
    whole = found.positions.shape == (size, n_atoms, 3) and found.numbers.shape == (3, size)
    return found if whole else None


def _draw_within_memory(proposal: Proposal, target: Target, seed: int, index: int, size: int) -> Chunk:
    """Draw a chunk at once, or in batches that fit; only then do its random numbers differ."""

    def some(rows: slice) -> Chunk:
        return _draw(proposal, target, rows.stop - rows.start, (seed, index, rows.start))

    parts = within_memory(size, some, "importance sampling")
    positions = np.concatenate([part.positions for part in parts])
    return Chunk(positions, np.concatenate([part.numbers for part in parts], axis=1))


@torch.no_grad()
def _draw(proposal: Proposal, target: Target, n: int, key: tuple[int, int, int]) -> Chunk:
    generator = torch.Generator().manual_seed(stream(*key))
    x, log_q = proposal.sample(n, generator)
    numbers = log_weight_numbers(proposal, target, x, log_q)
    positions = x.detach().cpu().double().numpy()
    finite = np.asarray(np.isfinite(positions).all(axis=(1, 2)))
    # A sample without coordinates has weight zero whatever its energy is said to be.
    numbers[:, np.logical_not(finite)] = np.inf
    return Chunk(np.where(finite[:, None, None], positions, 0.0).astype(np.float32), numbers)


def stream(*key: int) -> int:
    """Seed of the random stream that belongs to a tuple of non-negative integers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _assemble(chunks: list[Chunk], n: int, topology: Topology, temperature: float, seed: int, density: str) -> Ensemble:
    numbers = np.concatenate([c.numbers for c in chunks], axis=1)[:, :n]
    log_w = log_weights(numbers)
    return Ensemble(
        positions=np.concatenate([c.positions for c in chunks])[:n],
        log_w=log_w,
        topology=topology,
        temperature=temperature,
        u=numbers[0],
        log_q=numbers[1],
        provenance={
            "method": "snis",
            "seed": seed,
            "chunk": len(chunks[0].positions),
            "non_finite": int((~np.isfinite(log_w)).sum()),
            "energy_calls": sum(len(c.positions) for c in chunks),
            **({} if density == "exact" else {"density": density, "exact": density == "joint"}),
        },
    )
