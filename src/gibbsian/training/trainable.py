"""What training needs of a model."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gibbsian.chem.topology import Topology

CHUNK = 4096
"""Conformations that are evaluated at once."""

Model = TypeVar("Model", bound="Trainable")


class Trainable(Protocol):
    """What the loop needs of a model, besides being an `nn.Module`.

    A model whose ``config.temperatures`` is not None holds a range of them: ``at(temperature)`` returns it at one, or
    at one per conformation, with the same weights.
    """

    topology: Topology
    config: Any

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss (B,) of conformations (B, n_atoms, 3) nm, differentiable in the weights.

        Its mean by weight is minimised; conformations where it is not finite are left out. A density gives its
        negative logarithm; what noise the loss needs comes from `generator`.
        """
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of conformations; where stages ask for `refit_penalty`, differentiable in the weights."""
        ...

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations (n, n_atoms, 3) nm and log density (n,) for refit and reverse KL.

        For reverse KL they are differentiable in the weights; a model that cannot do this raises `InputError`.
        """
        ...

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) that the model gives to what no energy sees."""
        ...

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move training conformations in ways that no energy sees, as the model expects them."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Learnt weights."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All weights by name."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> Any:
        """Overwrite all weights."""
        ...


def at_temperature(model: Any, temperature: float | Tensor | None) -> Any:
    """Return a model at a temperature (K), or at one per conformation, (B,); None leaves it where it is."""
    return model if temperature is None else model.at(temperature)
