"""Energy whose gradient is the force that came with it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SavedForce(torch.autograd.Function):
    """`SavedForce.apply(x, energy_and_force)` is the energy; its backward pass uses the force of that call.

    A second derivative is refused by torch rather than silently zero.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        energy_and_force: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Energy (B,), float64."""
        energy, force = energy_and_force(x)
        ctx.save_for_backward(force)
        return energy

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: torch.autograd.function.FunctionCtx, by_energy: Tensor
    ) -> tuple[Tensor, None]:
        """Minus the force, weighted."""
        (force,) = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return -force * by_energy[:, None, None].to(force.dtype), None
