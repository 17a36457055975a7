"""The Proposal contract: what every generator offers to the samplers."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class SamplingProposal(Protocol):
    """A generator of conformations that may lack a density; samplers that need one refuse it by name."""

    n_atoms: int

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw `n` conformations (n, n_atoms, 3) nm with log q (n,), or None where no density is known."""
        ...


@runtime_checkable
class Proposal(SamplingProposal, Protocol):
    """A generator with an exact density.

    `log_q` is the density of the returned coordinates in nm; for internal-coordinate models in the mean-free
    orthonormal measure: ``log q(b,a,t) - log J - log 8 pi^2 + (3/2) log n``.
    """

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm and their log q (n,), float64."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm, (B,) float64; -inf outside the support."""
        ...

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient with respect to x (B, n_atoms, 3)."""
        ...

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) given to what physics does not see (the centre of mass); zero where there is none."""
        ...


@runtime_checkable
class LatentProposal(Proposal, Protocol):
    """A proposal that is a bijection of simple latent variables, so that samplers can redraw a part of them.

    Each latent variable is independent of the others: standard normal, or uniform on the circle [0, 1).
    """

    def latent_circular(self) -> Tensor:
        """Which of the d latent variables live on the circle, (d,) bool."""
        ...

    def to_latent(self, x: Tensor) -> Tensor:
        """Latent variables (B, d), float64, of conformations (B, n_atoms, 3) nm in the support; NaN outside."""
        ...

    def from_latent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations (B, n_atoms, 3) nm of latent variables (B, d), and their `log_prob` (B,), float64.

        Where `z` leads to no conformation: NaN and -inf.
        """
        ...
