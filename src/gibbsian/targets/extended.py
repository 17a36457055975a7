"""A target completed with what physics does not see, such as the centre of mass of a Cartesian proposal."""

from collections.abc import Callable

import torch
from torch import Tensor

from gibbsian.targets.base import Target


class Extended:
    """Target u_ext(x) = u(x) - log_gauge(x), normalisable where u alone is not.

    Parameters
    ----------
    target
        The physical target.
    log_gauge
        Maps `x` (B, N, 3) nm to the (B,) log density of what `target` does not see; a proposal's own
        `log_gauge`.
    """

    def __init__(self, target: Target, log_gauge: Callable[[Tensor], Tensor]) -> None:
        self.target = target
        self.log_gauge = log_gauge
        self.n_atoms = target.n_atoms

    def u(self, x: Tensor) -> Tensor:
        """Return u - log_gauge of `x` (B, N, 3) nm: (B,) in kT, float64; differentiable."""
        return _never_nan(self.target.u(x) - self.log_gauge(x).double())

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value (B,) and gradient (B, N, 3) 1/nm, with one energy call."""
        u, grad = self.target.u_and_grad(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            log_gauge = self.log_gauge(leaf)
            if not log_gauge.requires_grad:  # a constant, as for internal coordinates
                return _never_nan(u - log_gauge.double()), grad
            (gauge_grad,) = torch.autograd.grad(log_gauge.sum(), leaf)
        return _never_nan(u - log_gauge.detach().double()), grad - gauge_grad


def _never_nan(u: Tensor) -> Tensor:
    return torch.where(torch.isfinite(u), u, torch.inf)
