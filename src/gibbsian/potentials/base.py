"""The Potential contract."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Potential(Protocol):
    """Potential energy of batches of conformations.

    Attributes
    ----------
    n_atoms
        Number of atoms.
    calls
        Conformations evaluated so far, gradients included.
    """

    n_atoms: int
    calls: int

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,); differentiable, its gradient is minus the force."""
        ...

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol and force (B, n_atoms, 3) in kJ/mol/nm in one pass, without a graph."""
        ...
