"""Markov kernels that leave a level pi ~ exp(-U), U = a u0 + b u1, invariant; all particles move at once.

    ula   x' = x - h g + sqrt(2h) xi                   biased at any finite h
    mala  the same, accepted with U(x) - U(x') + [|x' - x + h g|^2 - |x - x' + h g'|^2] / 4h
    hmc   leapfrog steps of unit masses, accepted with the change of the Hamiltonian
    rwm   x' = x + s xi, accepted with U(x) - U(x'); no gradients
    regen a part of the proposal's latent variables is drawn anew, z' = sqrt(1 - b^2) z + b xi or a random subset;
          reversible for q, so it is accepted with (u0' - U') - (u0 - U); no gradients

The one number that every kernel has, `step`, is the width of its noise: s = sqrt(2h) in nm, the leapfrog step, or b.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gibbsian.models.base import LatentProposal
from gibbsian.sampling.bridge import Bridge, Coefficients, Particles

KernelName = Literal["mala", "hmc", "ula", "rwm"]
RegenForm = Literal["mix", "subset"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)
ACCEPTANCE = {"mala": 0.574, "hmc": 0.65, "rwm": 0.234, "ula": 0.99, "regen": 0.3}
"""What the steps are adapted to; for `ula`, which accepts everything, what the test of `mala` would have accepted."""
LEAPFROG = 5


class Move(NamedTuple):
    """What a kernel did: probabilities of acceptance (B,), NaN for particles without a density, and the changes."""

    acceptance: Tensor
    accepted: Tensor


Kernel = Callable[[Particles, Coefficients, Bridge, float | Tensor, torch.Generator], tuple[Particles, Move]]
"""(particles, level, bridge, step, generator) -> (moved particles, what happened)."""


@dataclass(frozen=True)
class StepRule:
    """How a step follows the acceptance: by `exp(gain (acceptance - wanted))`, at most `factor`, outside a band."""

    wanted: float
    band: float = 0.025
    gain: float = 1.0
    factor: float = 2.0
    least: float = 1e-9
    most: float = 10.0

    def next(self, step: float, acceptance: float) -> float:
        """Return the step for the next level."""
        if not math.isfinite(acceptance) or abs(acceptance - self.wanted) <= self.band:
            return step
        change = math.exp(self.gain * (acceptance - self.wanted))
        return self.clamp(step * min(max(change, 1 / self.factor), self.factor))

    def clamp(self, step: float) -> float:
        """Return the step within its limits."""
        return min(max(step, self.least), self.most)


def ula(
    state: Particles, at: Coefficients, bridge: Bridge, step: float | Tensor, generator: torch.Generator
) -> tuple[Particles, Move]:
    """Unadjusted Langevin step; the level is left invariant only as `step` goes to zero.

    The acceptance is that of the test which `mala` would make: it says how wrong the step is.
    """
    state, proposed, log_ratio = _langevin(state, at, bridge, step, generator)
    alive = torch.isfinite(state.energy(at))
    return state.where(alive, proposed), _summary(_possible(log_ratio, proposed, at), alive, alive)


def mala(
    state: Particles, at: Coefficients, bridge: Bridge, step: float | Tensor, generator: torch.Generator
) -> tuple[Particles, Move]:
    """Langevin step of noise `step` nm with a Metropolis test: exact at any step."""
    state, proposed, log_ratio = _langevin(state, at, bridge, step, generator)
    return _metropolis(state, proposed, log_ratio, at, generator)


def _langevin(
    state: Particles, at: Coefficients, bridge: Bridge, step: float | Tensor, generator: torch.Generator
) -> tuple[Particles, Particles, Tensor]:
    """Return the state with gradients, a Langevin step from it, and the log of the Metropolis ratio (B,)."""
    state = bridge.complete(state, gradients=True)
    s = _column(step)
    noise = s * _noise(state.x, generator)
    proposed = bridge.evaluate(state.x - 0.5 * s**2 * state.gradient(at) + noise, gradients=True)
    # |x' - x + h g| is the noise; the way back needs the gradient there.
    back = state.x - proposed.x + 0.5 * s**2 * proposed.gradient(at)
    log_ratio = ((noise.square() - back.square()) / (2 * s**2)).sum((1, 2))
    return state, proposed, state.energy(at) - proposed.energy(at) + log_ratio


def hmc(
    state: Particles,
    at: Coefficients,
    bridge: Bridge,
    step: float | Tensor,
    generator: torch.Generator,
    n_leapfrog: int = LEAPFROG,
) -> tuple[Particles, Move]:
    """`n_leapfrog` leapfrog steps of length `step` with fresh momenta and a Metropolis test."""
    state = bridge.complete(state, gradients=True)
    s = _column(step)
    first = _noise(state.x, generator)
    momentum, proposed = first - 0.5 * s * state.gradient(at), state
    for k in range(n_leapfrog):
        proposed = bridge.evaluate(proposed.x + s * momentum, gradients=True)
        kick = 0.5 if k == n_leapfrog - 1 else 1.0
        momentum = momentum - kick * s * proposed.gradient(at)
    kinetic = 0.5 * (first.square() - momentum.square()).sum((1, 2))
    return _metropolis(state, proposed, state.energy(at) - proposed.energy(at) + kinetic, at, generator)


def rwm(
    state: Particles, at: Coefficients, bridge: Bridge, step: float | Tensor, generator: torch.Generator
) -> tuple[Particles, Move]:
    """Random-walk Metropolis on all coordinates with noise `step` nm."""
    proposed = bridge.evaluate(state.x + _column(step) * _noise(state.x, generator), gradients=False)
    return _metropolis(state, proposed, state.energy(at) - proposed.energy(at), at, generator)


def regen(
    state: Particles,
    at: Coefficients,
    bridge: Bridge,
    step: float | Tensor,
    generator: torch.Generator,
    *,
    proposal: LatentProposal,
    form: RegenForm = "mix",
) -> tuple[Particles, Move]:
    """Draw a part of the latent variables of `proposal` anew; a `step` of one is an independent draw from it.

    `bridge.first` must be the energy of that proposal. The latent variables stay with the particle until another kernel
    moves it: encoding and decoding again and again would break reversibility by the round-trip error.
    """
    z = proposal.to_latent(state.x) if state.z is None else state.z
    state = Particles(**{**state.tensors(), "z": z})
    fresh = _renewed(z, proposal.latent_circular(), float(step), form, generator)
    x, log_q = proposal.from_latent(fresh)
    sound = torch.isfinite(log_q) & torch.isfinite(x).all(-1).all(-1) & torch.isfinite(fresh).all(-1)
    x = torch.where(sound[:, None, None], x.double(), state.x)
    proposed = bridge.with_log_q(x, torch.where(sound, log_q, -torch.inf))
    proposed = Particles(proposed.x, proposed.u0, proposed.u1, z=fresh)
    log_ratio = _over_proposal(proposed, at) - _over_proposal(state, at)
    moved, info = _metropolis(state, proposed, log_ratio, at, generator)
    return _keep_gradients(state, moved, info.accepted, bridge), info


def with_leapfrog(n_leapfrog: int) -> Kernel:
    """`hmc` with a number of leapfrog steps."""

    def kernel(
        state: Particles, at: Coefficients, bridge: Bridge, step: float | Tensor, generator: torch.Generator
    ) -> tuple[Particles, Move]:
        return hmc(state, at, bridge, step, generator, n_leapfrog)

    return kernel


def kernel_named(name: KernelName, n_leapfrog: int = LEAPFROG) -> Kernel:
    """Return a kernel by its name."""
    if name == "hmc":
        return with_leapfrog(n_leapfrog)
    return {"mala": mala, "ula": ula, "rwm": rwm}[name]


def find_step(
    kernel: Kernel,
    state: Particles,
    at: Coefficients,
    bridge: Bridge,
    rule: StepRule,
    first: float,
    generator: torch.Generator,
    tries: int = 30,
) -> float:
    """Double or halve a step until the mean acceptance crosses the wanted one; the moves are thrown away.

    Returns
    -------
    float
        The geometric mean of the last two steps; always positive.
    """
    step, direction = rule.clamp(first), 0
    for _ in range(tries):
        acceptance = mean_acceptance(kernel(state, at, bridge, step, generator)[1])
        wanted = 1 if acceptance > rule.wanted else -1
        if direction and wanted != direction:
            return rule.clamp(step * 2 ** (0.5 * wanted))
        direction = wanted
        following = rule.clamp(step * 2.0**direction)
        if following == step:
            return step
        step = following
    return step


def mean_acceptance(*moves: Move) -> float:
    """Mean probability of acceptance of the particles that could move; 0 if there was none."""
    values = torch.cat([move.acceptance for move in moves])
    values = values[torch.isfinite(values)]
    return float(values.mean()) if len(values) else 0.0


def _metropolis(
    state: Particles, proposed: Particles, log_ratio: Tensor, at: Coefficients, generator: torch.Generator
) -> tuple[Particles, Move]:
    """Accept with min(1, exp(log_ratio)); particles without a density stay, proposals without one are refused."""
    uniform = torch.rand(len(state), dtype=torch.float64, device=state.x.device, generator=generator)
    alive, log_ratio = torch.isfinite(state.energy(at)), _possible(log_ratio, proposed, at)
    accept = alive & (uniform.log() < log_ratio)
    return state.where(accept, proposed), _summary(log_ratio, accept, alive)


def _possible(log_ratio: Tensor, proposed: Particles, at: Coefficients) -> Tensor:
    """Log ratios, -inf where the proposal has no density or the arithmetic failed."""
    return torch.where(torch.isfinite(proposed.energy(at)) & ~torch.isnan(log_ratio), log_ratio, -torch.inf)


def _summary(log_ratio: Tensor, accepted: Tensor, alive: Tensor) -> Move:
    return Move(torch.where(alive, log_ratio.clamp(max=0.0).exp(), torch.nan), accepted)


def _over_proposal(state: Particles, at: Coefficients) -> Tensor:
    """Log density of a level relative to the proposal; not a number where the particle has none."""
    return state.u0 - state.energy(at)


def _keep_gradients(before: Particles, moved: Particles, accepted: Tensor, bridge: Bridge) -> Particles:
    """Compute gradients, if they were known before, for those particles alone that moved."""
    if before.grad0 is None or before.grad1 is None:
        return moved
    grad0, grad1 = before.grad0.clone(), before.grad1.clone()
    if bool(accepted.any()):
        fresh = bridge.evaluate(moved.x[accepted], gradients=True)
        assert fresh.grad0 is not None
        assert fresh.grad1 is not None
        grad0[accepted], grad1[accepted] = fresh.grad0, fresh.grad1
    return Particles(moved.x, moved.u0, moved.u1, grad0, grad1, moved.z)


def _renewed(z: Tensor, circular: Tensor, share: float, form: RegenForm, generator: torch.Generator) -> Tensor:
    """Latent variables with a part of each, or a part of them, drawn anew."""
    normal = torch.randn(z.shape, dtype=z.dtype, device=z.device, generator=generator)
    uniform = torch.rand(z.shape, dtype=z.dtype, device=z.device, generator=generator)
    circular = circular.to(z.device)
    share = min(max(share, 0.0), 1.0)
    if form == "subset":
        chosen = torch.rand(z.shape, device=z.device, generator=generator) < share
        return torch.where(chosen, torch.where(circular, uniform, normal), z)
    turned = torch.remainder(z + share * (uniform - 0.5), 1.0)
    return torch.where(circular, turned, math.sqrt(1.0 - share**2) * z + share * normal)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def _column(step: float | Tensor) -> float | Tensor:
    return step[:, None, None] if isinstance(step, Tensor) else step
