"""Langevin dynamics from draws of a proposal to a target that never asks the proposal on the way.

Simulate, leave out, then weight: all draws are moved with the forces of the target alone (`path_weights`); those that
end above an energy get weight zero and stay in the count; only the rest is weighted, which takes one gradient of the
proposal's density for each step. Only the last point is tested and nothing is resampled on the way, so

    E[e^A 1{u(x_K) <= gamma}] = Z_gamma        exactly                      (arXiv 2502.18462, appendix A.1 and 3.2)

Each path is independent of the others: there is no lineage, and the errors are those of importance samples.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.files import folder_of
from gibbsian.models.base import Proposal, SamplingProposal
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.progress import Report, silent
from gibbsian.sampling.bridge import Bridge, Coefficients, ProposalEnergy, frozen
from gibbsian.sampling.importance import require_density, stream
from gibbsian.sampling.kernels import StepRule, find_step, kernel_named
from gibbsian.sampling.path_weights import Paths, ode_weights, path_weights, run_paths
from gibbsian.sampling.smc import MOST_DRAWS
from gibbsian.sampling.truncation import energy_threshold
from gibbsian.targets.base import Target
from gibbsian.targets.extended import Extended

FORMAT = "gibbsian-langevin-1"
STABLE = 0.9
"""What a Metropolis test at the target should accept of the longest step that is tried."""
SHARES = (1.0, 0.25, 1 / 16, 1 / 64)
"""Parts of that step among which the pilot chooses."""
FIRST_STEP = 1e-3
PILOT = 256
_PILOT, _PATHS = 1, 2  # last entries of the keys of random streams; those of the draws end in zero

Weighting = Literal["path", "ode", "none"]


@dataclass(frozen=True)
class LangevinSettings:
    """How draws are moved and weighted.

    Attributes
    ----------
    steps
        Steps of each path.
    step
        Width of the noise of a step in nm. None takes the one, of a stable step and its parts, that leaves most
        effective samples of 256 other draws; without weights the stable one.
    weights
        ``path``: exact at any step. ``ode``: by the published differential equation, with the exact Laplacian; biased
        by the step, and the result says so. ``none``: the samples follow no known law, and the result says so.
    max_energy
        Largest u in kT of an end point, by hand.
    energy_delta
        Mass of the target that an automatic threshold may cost, such as 1e-3; it is found on the first chunk.
    chunk
        Paths that move together; it bounds the memory, 6 steps chunk atoms numbers, and is part of the result.
    """

    steps: int = 100
    step: float | None = None
    weights: Weighting = "path"
    max_energy: float | None = None
    energy_delta: float | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        if self.weights == "hutchinson":
            raise InputError(
                "langevin weights: got 'hutchinson'; an unbiased estimate of A gives biased weights e^A, choose path"
            )
        if self.weights not in ("path", "ode", "none"):
            raise InputError(f"langevin weights: got {self.weights!r}; choose path, ode or none")
        for name in ("steps", "chunk"):
            if not getattr(self, name) > 0:
                raise InputError(f"langevin {name}: got {getattr(self, name)}; give a positive number")
        if self.step is not None and not self.step > 0:
            raise InputError(f"langevin step: got {self.step} nm; give a positive number, or None to find one")
        if self.energy_delta is not None and (not 0 < self.energy_delta < 1 or self.weights == "none"):
            raise InputError(
                f"langevin energy_delta: got {self.energy_delta}; give a probability such as 1e-3, and weights"
            )


class Chunk(NamedTuple):
    """Ends and starts of consecutive paths: (m, N, 3) float32 and (m,) float64; conformations evaluated."""

    positions: Tensor
    log_w: Tensor
    u: Tensor
    log_q: Tensor
    first_positions: Tensor
    first_log_w: Tensor
    first_u: Tensor
    first_log_q: Tensor
    calls: int


@dataclass(frozen=True, eq=False)
class _Run:
    proposal: Proposal
    target: Target
    settings: LangevinSettings
    seed: int

    @property
    def extended(self) -> Extended:
        return Extended(self.target, self.proposal.log_gauge)

    def draw(self, n: int, *key: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            x, log_q = self.proposal.sample(n, torch.Generator().manual_seed(stream(self.seed, *key)))
        return x.double(), log_q.double()

    def weigh(self, paths: Paths, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Log weights (B,) and log q (B,) of the end points."""
        if self.settings.weights == "ode":
            return ode_weights(paths, self.proposal)
        return path_weights(paths, self.proposal, log_q)


def sample_langevin(
    proposal: SamplingProposal,
    target: Target,
    n: int,
    *,
    topology: Topology,
    temperature: float,
    settings: LangevinSettings | None = None,
    folder: Path | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Ensemble:
    """Draw `n` conformations from a proposal, move them by Langevin steps on the target, and weight the paths.

    Parameters
    ----------
    proposal, target
        Generator with a density and the target at `temperature` (K).
    topology
        Goes into the ensemble.
    folder
        Where chunks are kept; the same call resumes, a larger `n` tops up, other settings start anew. The caller keys
        it by proposal and target.
    report
        Called after each chunk with ``ess=``; may raise `StoppedError`.

    Returns
    -------
    Ensemble
        End points with ``u`` and, where weighted, ``log_q``. ``provenance`` has ``step``, the threshold as
        ``max_energy`` with the share of end points ``above``, ``weighted``, ``exact``, and ``proposal_ess``, the
        effective size of the importance weights of the draws. ``draws`` has the first of these, at most `MOST_DRAWS`.

    Raises
    ------
    InputError
        For a sampling-only proposal, impossible numbers, or a damaged file.
    """
    dense, settings = require_density(proposal, "Langevin paths"), settings or LangevinSettings()
    if n < 1:
        raise InputError(f"Langevin paths: n = {n}; give a positive number")
    made_from = {"seed": seed, "n_atoms": topology.n_atoms, "settings": asdict(settings)}
    place = None if folder is None else folder_of(folder, "langevin", made_from)
    run = _Run(dense, target, settings, seed)
    with frozen(dense):
        step, threshold, calls = _prepare(run, place)
        chunks: list[Chunk] = []
        for index in range(math.ceil(n / settings.chunk)):
            name = f"paths-{index:05d}.safetensors"
            chunks.append(_stored(place, name) or _kept(place, name, _chunk(run, index, step, threshold)))
            log_w = torch.cat([c.log_w for c in chunks])[:n].numpy()
            report(len(log_w), n, ess=ess(log_w))
    return _finish(run, chunks, n, step, threshold, calls, topology, temperature)


def _prepare(run: _Run, place: Path | None) -> tuple[float, float, int]:
    """Step, energy threshold, and what finding them took."""
    settings, name = run.settings, "prepared.safetensors"
    if place is not None and (place / name).exists():
        numbers = read_tensors(place / name, FORMAT)[0]["numbers"].tolist()
        return numbers[0], numbers[1], int(numbers[2])
    step, calls = (settings.step, 0) if settings.step is not None else _find_step(run)
    threshold = math.inf if settings.max_energy is None else settings.max_energy
    if settings.energy_delta is not None:
        first = _chunk(run, 0, step, threshold)
        found = energy_threshold(first.u.numpy(), first.log_w.numpy(), settings.energy_delta)
        threshold, calls = min(threshold, found), calls + first.calls
    if place is not None:
        numbers = torch.tensor([step, threshold, calls], dtype=torch.float64)
        write_tensors(place / name, {"numbers": numbers}, {"format": FORMAT})
    return step, threshold, calls


def _find_step(run: _Run) -> tuple[float, int]:
    """Choose a step on draws that are not used again, so that the weights stay exact."""
    x, log_q = run.draw(min(PILOT, run.settings.chunk), 0, 0, _PILOT)
    bridge = Bridge(ProposalEnergy(run.proposal), run.extended)
    generator = torch.Generator().manual_seed(stream(run.seed, 1, 0, _PILOT))
    rule, target_only = StepRule(STABLE), Coefficients(0.0, 1.0)
    pilot = bridge.evaluate(x, gradients=True)
    stable = find_step(kernel_named("ula"), pilot, target_only, bridge, rule, FIRST_STEP, generator)
    if run.settings.weights == "none":
        return stable, bridge.calls

    def effective(share: float) -> float:
        generator = torch.Generator().manual_seed(stream(run.seed, 2, 0, _PILOT))
        paths = run_paths(run.extended, x, 0.5 * (share * stable) ** 2, run.settings.steps, generator)
        return ess(path_weights(paths, run.proposal, log_q)[0].numpy())

    best = max(SHARES, key=effective)
    return best * stable, bridge.calls + len(SHARES) * len(x) * (run.settings.steps + 1)


def _chunk(run: _Run, index: int, step: float, threshold: float) -> Chunk:
    """Paths of one chunk: all of them simulated, those that end below the threshold weighted."""
    settings = run.settings
    x, log_q = run.draw(settings.chunk, index, 0)
    generator = torch.Generator().manual_seed(stream(run.seed, index, 0, _PATHS))
    paths = run_paths(run.extended, x, 0.5 * step**2, settings.steps, generator)
    u, first_u = (_physical(run, paths, place) for place in (-1, 0))
    kept = paths.alive & (u <= threshold) & torch.isfinite(u)
    log_w = torch.where(kept, 0.0, -torch.inf).double()
    last = torch.full_like(log_w, -torch.inf)
    if settings.weights != "none" and bool(kept.any()):
        log_w[kept], last[kept] = run.weigh(paths.take(kept), log_q[kept])
    first_log_w = -paths.u1[0] - log_q
    first_log_w = torch.where(paths.sound & torch.isfinite(first_log_w), first_log_w, -torch.inf)
    first = (paths.x[0].float(), first_log_w, first_u, log_q)
    return Chunk(paths.x[-1].float(), log_w, u, last, *first, calls=len(x) * (settings.steps + 1))


@torch.no_grad()
def _physical(run: _Run, paths: Paths, place: int) -> Tensor:
    """Energies (B,) at a point of the paths without the gauge, inf where not finite."""
    u = paths.u1[place] + run.proposal.log_gauge(paths.x[place]).double()
    return torch.where(torch.isfinite(u), u, torch.inf)


def _finish(
    run: _Run,
    chunks: list[Chunk],
    n: int,
    step: float,
    threshold: float,
    calls: int,
    topology: Topology,
    temperature: float,
) -> Ensemble:
    columns = [torch.cat(parts)[:n].numpy() for parts in list(zip(*chunks, strict=True))[:-1]]
    positions, log_w, u, log_q = columns[:4]
    first_positions, first_log_w, first_u, first_log_q = (column[:MOST_DRAWS] for column in columns[4:])
    draws = Ensemble(
        positions=first_positions,
        log_w=first_log_w,
        topology=topology,
        temperature=temperature,
        u=first_u,
        log_q=first_log_q,
        provenance={"method": "proposal", "seed": run.seed},
    )
    weighted = run.settings.weights != "none"
    provenance: dict[str, Any] = {
        "method": "langevin",
        "seed": run.seed,
        "settings": asdict(run.settings),
        "step": step,
        "max_energy": None if math.isinf(threshold) else threshold,
        "above": float(np.mean(~(u <= threshold))),
        "weighted": weighted,
        "exact": run.settings.weights == "path",
        "proposal_ess": ess(columns[5]),
        "non_finite": int((~np.isfinite(log_w)).sum()),
        "energy_calls": calls + sum(chunk.calls for chunk in chunks),
    }
    return Ensemble(
        positions=positions,
        log_w=log_w,
        topology=topology,
        temperature=temperature,
        u=u,
        log_q=log_q if weighted else None,
        provenance=provenance,
        draws=draws,
    )


def _stored(place: Path | None, name: str) -> Chunk | None:
    if place is None or not (place / name).exists():
        return None
    tensors, header = read_tensors(place / name, FORMAT)
    return Chunk(**tensors, calls=header["calls"])


def _kept(place: Path | None, name: str, chunk: Chunk) -> Chunk:
    """Write a chunk, if there is a folder."""
    if place is not None:
        tensors = {key: value for key, value in chunk._asdict().items() if isinstance(value, Tensor)}
        write_tensors(place / name, tensors, {"format": FORMAT, "calls": chunk.calls})
    return chunk
