"""The transform of a spline coupling by the compiled kernels, several times as fast as the same in torch."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gibbsian.kernels import instruction_sets, is_built, kernels
from gibbsian.models.layers.splines import SLOPE_MIN

STEEPEST = -math.log(SLOPE_MIN)
"""Log of the largest slope of a spline."""


def can_couple(v: Tensor) -> bool:
    """Whether the kernels were built and take variables of this type and device."""
    return is_built() and v.device.type == "cpu" and v.dtype in (torch.float32, torch.float64)


@cache
def _kernel(name: str) -> tuple[Callable[..., None], str]:
    return getattr(kernels(), name), instruction_sets()[0]


class Couple(torch.autograd.Function):
    """Images (B, n) of variables (B, n), and the log-determinant (B,), as in `SplineCoupling`; differentiable once.

    Takes the variables, their raw parameters (B, n, 3 K + 1), which of them are on the circle (n,), in the dtype of
    the variables, half the domain on the line, and whether to invert.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, p: Tensor, circular: Tensor, bound: float, inverse: bool) -> tuple[Tensor, Tensor]:
        """Run the kernel and keep its inputs."""
        v, p = v.contiguous(), p.contiguous()
        ctx.save_for_backward(v, p, circular)
        ctx.bound, ctx.inverse = bound, inverse
        image, log_det = torch.empty_like(v), v.new_empty(len(v))
        run, widest = _kernel("couple")
        inputs = (v.detach().numpy(), p.detach().numpy(), circular.numpy())
        run(*inputs, bound, STEEPEST, inverse, widest, image.numpy(), log_det.numpy())
        return image, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Run the kernel's gradient on the inputs that were kept."""
        v, p, circular = ctx.saved_tensors
        d_v, d_p = torch.empty_like(v), torch.empty_like(p)
        run, widest = _kernel("couple_back")
        inputs = (v.detach().numpy(), p.detach().numpy(), circular.numpy())
        gradients = [gradient.contiguous().numpy() for gradient in grad_outputs]
        run(*inputs, ctx.bound, STEEPEST, ctx.inverse, widest, *gradients, d_v.numpy(), d_p.numpy())
        return d_v, d_p, None, None, None
