"""The Target contract."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Target(Protocol):
    """An unnormalised density exp(-u(x)) over conformations.

    Non-finite energies give ``u = inf``: weight zero, never an exception.
    """

    n_atoms: int

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy of `x` (B, n_atoms, 3) nm, (B,) in kT, float64; differentiable."""
        ...

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, n_atoms, 3) in 1/nm, in one pass."""
        ...
