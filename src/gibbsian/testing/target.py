"""Conformance of a user's own target, in one call."""

import torch
from torch import Tensor

from gibbsian.targets.base import Target


def check_target(target: Target, x: Tensor, step: float = 1e-5, tolerance: float = 1e-4) -> None:
    """Check the `Target` contract on conformations; AssertionError says what fails.

    Shapes and types; autograd of `u` and `u_and_grad` against central finite differences along a random
    direction; infinite u, and no exception, for broken coordinates; calls counted where there is a counter.

    Parameters
    ----------
    target
        What to check.
    x
        (B, n_atoms, 3) nm, float64, sane conformations.
    step
        Length of the finite difference, nm.
    tolerance
        On the slope, relative to the gradient's norm.
    """
    batch = len(x)
    assert x.shape == (batch, target.n_atoms, 3), f"x has shape {tuple(x.shape)}, target {target.n_atoms} atoms"
    before = getattr(target, "calls", None)
    leaf = x.detach().clone().requires_grad_()
    u = target.u(leaf)
    assert u.shape == (batch,), f"u has shape {tuple(u.shape)}"
    assert u.dtype == torch.float64, f"u is {u.dtype}"
    (auto,) = torch.autograd.grad(u.sum(), leaf)
    u_too, grad = target.u_and_grad(x)
    assert u_too.dtype == torch.float64, f"u of u_and_grad is {u_too.dtype}"
    assert grad.shape == x.shape, f"gradient has shape {tuple(grad.shape)}"
    assert torch.allclose(u_too, u, rtol=1e-9, atol=1e-9), "u and u_and_grad disagree on u"
    if before is not None:
        counted = getattr(target, "calls") - before  # noqa: B009 (not part of the protocol)
        assert counted == 2 * batch, f"{counted} calls counted for {2 * batch} evaluations"
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    direction = direction / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
    slope = (target.u(x + step * direction) - target.u(x - step * direction)) / (2 * step)
    scale = 1.0 + torch.linalg.vector_norm(grad, dim=(1, 2))
    for name, gradient in (("autograd of u", auto), ("gradient of u_and_grad", grad)):
        error = float((((gradient * direction).sum((1, 2)) - slope).abs() / scale).max())
        assert error < tolerance, f"{name}: relative slope error {error:.2e}"
    broken = x.clone()
    broken[0] = torch.nan
    for values in (target.u(broken), target.u_and_grad(broken)[0]):
        assert values[0] == torch.inf, "NaN coordinates must give u = inf"
        assert torch.isfinite(values[1:]).all(), "one broken conformation must not touch the others"
