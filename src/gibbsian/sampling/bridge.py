"""Particles, and the bridge of densities that leads them from one distribution to another.

    pi ~ exp(-(a u0 + b u1)),   u0 = -log q of the proposal,   u1 = u_ext of the target

with the two coefficients on a line from (1, 0) to (0, 1), or on a hotter way between the same ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gibbsian.models.base import Proposal
from gibbsian.targets.base import Target

FARTHEST = 1e6
"""nm; coordinates beyond it have no density."""


class Coefficients(NamedTuple):
    """Weights of u0 and u1 in the energy of a level: numbers, or one for each particle, (B,)."""

    first: float | Tensor
    second: float | Tensor


@dataclass(frozen=True, eq=False)
class Particles:
    """A batch of conformations with everything that was computed for them.

    Attributes
    ----------
    x
        (B, N, 3) nm, float64.
    u0, u1
        (B,) float64 energies of both ends in kT; inf where there is no density or no finite number.
    grad0, grad1
        (B, N, 3) their gradients in 1/nm; None where no kernel wants them.
    z
        (B, d) latent variables of the proposal that belong to `x`; None where unknown.
    """

    x: Tensor
    u0: Tensor
    u1: Tensor
    grad0: Tensor | None = None
    grad1: Tensor | None = None
    z: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> dict[str, Tensor]:
        """Return what is known, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def take(self, index: Tensor | slice) -> "Particles":
        """Return some of the particles."""
        return Particles(**{name: value[index] for name, value in self.tensors().items()})

    def energy(self, at: Coefficients) -> Tensor:
        """Energy (B,) of a level in kT; inf where either end has none, so that no kernel leaves the support."""
        sound = torch.isfinite(self.u0) & torch.isfinite(self.u1)
        zero = torch.zeros_like(self.u0)
        value = at.first * torch.where(sound, self.u0, zero) + at.second * torch.where(sound, self.u1, zero)
        return torch.where(sound, value, torch.inf)

    def gradient(self, at: Coefficients) -> Tensor:
        """Gradient (B, N, 3) of the energy of a level in 1/nm; zero where it is not finite."""
        assert self.grad0 is not None
        assert self.grad1 is not None
        grad = _broadcast(at.first) * self.grad0 + _broadcast(at.second) * self.grad1
        return torch.where(torch.isfinite(grad).all(-1).all(-1)[:, None, None], grad, 0.0)

    def where(self, accept: Tensor, proposed: "Particles") -> "Particles":
        """Take those of `proposed` that `accept` (B,) marks; what only one of both knows is forgotten."""
        mine, theirs = self.tensors(), proposed.tensors()
        known = {
            name: torch.where(accept.reshape(-1, *[1] * (mine[name].ndim - 1)), theirs[name], mine[name])
            for name in mine
            if name in theirs
        }
        return Particles(**known)


def join(parts: list[Particles]) -> Particles:
    """Put batches together; what one of them does not know is forgotten."""
    names = set.intersection(*[set(part.tensors()) for part in parts])
    return Particles(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


class Bridge:
    """Both ends of a path of densities; it counts the conformations that were evaluated.

    Parameters
    ----------
    first, second
        u0 and u1 with their gradients.
    most_u0
        Conformations with a larger u0 are outside, see `gibbsian.sampling.truncation`.
    """

    def __init__(self, first: Target, second: Target, most_u0: float = float("inf")) -> None:
        self.first, self.second, self.most_u0 = first, second, most_u0
        self.calls = 0

    def evaluate(self, x: Tensor, *, gradients: bool) -> Particles:
        """Energies, and gradients if wanted, of `x` (B, N, 3) nm."""
        x, sound = _sound(x)
        self.calls += len(x)
        if not gradients:
            with torch.no_grad():
                u0, u1 = self.first.u(x), self.second.u(x)
            return Particles(x, self._inside(u0, sound), _energy(u1))
        (u0, grad0), (u1, grad1) = self.first.u_and_grad(x), self.second.u_and_grad(x)
        return Particles(x, self._inside(u0, sound), _energy(u1), grad0.double(), grad1.double())

    def complete(self, particles: Particles, *, gradients: bool) -> Particles:
        """Add gradients where they are wanted and not known."""
        if not gradients or particles.grad0 is not None:
            return particles
        found = self.evaluate(particles.x, gradients=True)
        return replace(particles, grad0=found.grad0, grad1=found.grad1)

    def with_log_q(self, x: Tensor, log_q: Tensor) -> Particles:
        """Evaluate `x` (B, N, 3), of which log q (B,) is known, without gradients."""
        x, sound = _sound(x)
        self.calls += len(x)
        with torch.no_grad():
            return Particles(x, self._inside(-log_q.detach(), sound), _energy(self.second.u(x)))

    def _inside(self, u0: Tensor, sound: Tensor) -> Tensor:
        u0 = _energy(u0)
        return torch.where(sound & (u0 <= self.most_u0), u0, torch.inf)


class ProposalEnergy:
    """The density of a proposal as an energy u = -log q."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.n_atoms = proposal.n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Return -log q of `x` (B, N, 3) nm, (B,)."""
        return _energy(-self.proposal.log_prob(x))

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -log q (B,) and its gradient (B, N, 3) 1/nm."""
        log_q, grad = self.proposal.log_prob_and_grad(x)
        return _energy(-log_q), -grad


@contextmanager
def frozen(proposal: object) -> Iterator[None]:
    """Let no graph be built for the parameters of a proposal that is a module."""
    parameters = list(proposal.parameters()) if isinstance(proposal, nn.Module) else []
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, value in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(value)


def _sound(x: Tensor) -> tuple[Tensor, Tensor]:
    """Conformations in float64, those with absurd or no coordinates replaced, and which are as they were."""
    x = x.detach().double()
    sound = (x.abs() < FARTHEST).all(-1).all(-1)
    if bool(sound.all()) or not bool(sound.any()):
        return x, sound
    # Networks and engines are spared what they were not made for; the energy of these is infinite anyway.
    return torch.where(sound[:, None, None], x, x[sound][:1]), sound


def _energy(u: Tensor) -> Tensor:
    return torch.where(torch.isfinite(u), u, torch.inf).double()


def _broadcast(value: float | Tensor) -> float | Tensor:
    return value[:, None, None] if isinstance(value, Tensor) else value
