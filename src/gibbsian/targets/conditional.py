"""The Boltzmann distribution on the slice of conformations whose frozen coordinates have one value."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.targets.base import Target


@runtime_checkable
class SliceTarget(Protocol):
    """An unnormalised density exp(-u(y)) over free variables y (B, n), rad, in the measure dy.

    Non-finite energies give ``u = inf``: weight zero, never an exception.
    """

    n_variables: int

    def u(self, y: Tensor) -> Tensor:
        """Reduced energy (B,), float64; differentiable."""
        ...

    def u_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, n) in 1/rad."""
        ...


class ConditionalTarget:
    """Target ``u(y) = u(x(y, c0)) - log J(y, c0)`` of the free variables, with frozen ones at c0.

    J is the volume element of internal coordinates: the sines of the free angles vary, the rest is a constant that
    only log Z notices. That log Z is over dy, of another dimension than the unconstrained one: never compare them. The
    density is neither that of dynamics with rigid bonds nor the marginal of the unconstrained ensemble.

    Parameters
    ----------
    target
        Over all conformations.
    coordinates
        Which coordinates are free.
    c0
        (m,) values of the frozen ones; see `ReducedCoordinates.mean_frozen`.

    Raises
    ------
    InputError
        If `c0` has the wrong shape or the target another number of atoms.
    """

    def __init__(self, target: Target, coordinates: ReducedCoordinates, c0: Tensor) -> None:
        if tuple(c0.shape) != (coordinates.frozen.n,):
            raise InputError(
                f"conditional target: c0 has shape {tuple(c0.shape)} for {coordinates.frozen.n} frozen coordinates; "
                "take it from ReducedCoordinates.mean_frozen"
            )
        if target.n_atoms != coordinates.n_atoms:
            raise InputError(
                f"conditional target: energies of {target.n_atoms} atoms and coordinates of {coordinates.n_atoms}; "
                "use the same system for both"
            )
        self.target, self.coordinates = target, coordinates
        self.c0 = c0.double()
        self.n_variables = coordinates.variables.n
        self._angles = torch.from_numpy(~coordinates.variables.periodic)
        self._constant = float(coordinates.log_jacobian_frozen(self.c0))

    def x(self, y: Tensor) -> Tensor:
        """Conformations (B, n_atoms, 3) nm of free variables `y` (B, n), float64."""
        return self.coordinates.to_x(y.double(), self.c0)

    def u(self, y: Tensor) -> Tensor:
        """Reduced energy of `y` (B, n): (B,) in kT, float64, inf where an angle leaves (0, pi); differentiable.

        The force comes with the energy and is carried to `y` through the Z-matrix: one call each.
        """
        angles = y[:, self._angles]
        inside = ((angles > 0.0) & (angles < math.pi)).all(-1)
        # A sound stand-in for what is outside keeps NaN out of gradients, where masks do not stop it.
        y = torch.where(inside[:, None], y.double(), 0.5 * math.pi)
        u = self.target.u(self.x(y)) - self.coordinates.log_jacobian_free(y) - self._constant
        return torch.where(inside & torch.isfinite(u), u, torch.inf)

    def u_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, n), 1/rad, zero where the energy is infinite."""
        leaf = y.detach().double().requires_grad_()
        with torch.enable_grad():
            u = self.u(leaf)
            finite = torch.isfinite(u)
            (grad,) = torch.autograd.grad(u[finite].sum(), leaf)
        return u.detach(), torch.where(finite[:, None], grad, 0.0)
