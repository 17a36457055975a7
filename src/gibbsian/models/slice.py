"""A reduced flow on the slice where its frozen coordinates have one value: the ensemble of the paper (2401.04246)."""

import torch
from torch import Tensor

from gibbsian.models.internal_flow import InternalFlow
from gibbsian.models.split_flow import SplitFlow


class SliceProposal(InternalFlow):
    """Generator of conformations whose frozen coordinates are at c0 (a `Proposal`).

    Densities are those that the weights of `gibbsian.targets.conditional.ConditionalTarget` need:
    ``log q(y) - log J(y, c0)``, so that ``-u(x) - log_prob(x)`` is a log weight on the slice and its log Z that of
    the slice. They are no densities of Cartesian coordinates, and conformations off the slice are not told apart.

    Parameters
    ----------
    flow
        Of which the free coordinates are drawn.
    """

    def __init__(self, flow: SplitFlow) -> None:
        super().__init__()
        self.flow, self.n_atoms = flow, flow.n_atoms
        self._constant = float(flow.coordinates.log_jacobian_frozen(flow.c0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return ``log q(y) - log J(y, c0)`` (B,), float64, of conformations on the slice (B, n_atoms, 3) nm."""
        y, _ = self.flow.coordinates.from_x(x.double())
        return self.flow.log_prob_free(y) - self.flow.coordinates.log_jacobian_free(y) - self._constant

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations differentiably (n, n_atoms, 3) and `log_prob` of the generating path."""
        x, log_q = self.flow.rsample_slice(n, generator)
        return x, log_q - self._constant
