"""Langevin paths that need no gradient of the proposal, and the exact weights of what they reach.

With u0 = -log q, u1 = u_ext, levels t_k = k/K and a step of noise s = sqrt(2h)::

    x_(k+1) = x_k - h t_k grad u1(x_k) + s xi                                     (arXiv 2502.18462, equation 11)

A path from x_0 ~ q has the exact weight e^A, whatever h and K: the ratio of the Euler step R of the process that runs
backwards to the step F that was made (derived; `E[e^A] = Z`)::

    A = u0(x_0) - u1(x_K) + sum_k log R(x_k | x_(k+1)) - log F(x_(k+1) | x_k)
    R(x | x') = N(x; x' - h [t_k grad u1(x') + 2 (1 - t_k) grad u0(x')], 2h)

As h goes to zero at a fixed h K this becomes the published differential equation, whose Laplacian it does not need::

    dA/dt = K h (1 - t) [lap u0 - (1 - t) |grad u0|^2 - t grad u0 . grad u1] + u0 - u1
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.models.base import Proposal
from gibbsian.sampling.bridge import FARTHEST
from gibbsian.targets.base import Target


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of a batch with what was computed on the way.

    Attributes
    ----------
    x, grad1
        (K + 1, B, N, 3) nm, 1/nm: positions, and gradients of u1 there, zero where they are not finite.
    u1
        (K + 1, B) kT.
    alive, sound
        (B,) whether all coordinates of a path, or of its first point, are finite; the others
        stand where they last were.
    h
        Half the squared noise of a step, nm^2.
    """

    x: Tensor
    grad1: Tensor
    u1: Tensor
    alive: Tensor
    sound: Tensor
    h: float

    @property
    def n_steps(self) -> int:
        """Steps of each path, K."""
        return len(self.x) - 1

    def take(self, index: Tensor) -> "Paths":
        """Return some of the paths."""
        parts = (self.x[:, index], self.grad1[:, index], self.u1[:, index])
        return Paths(*parts, self.alive[index], self.sound[index], self.h)


def run_paths(target: Target, x: Tensor, h: float, n_steps: int, generator: torch.Generator) -> Paths:
    """Move draws of a proposal by `n_steps` steps with the gradient of the target alone.

    Parameters
    ----------
    target
        u1, completed by the proposal's gauge.
    x
        (B, N, 3) nm.
    h
        Half the squared noise of a step, nm^2.
    """
    x = x.detach().double()
    alive = sound = _sound(x)
    x = torch.where(alive[:, None, None], x, x[alive][:1] if bool(alive.any()) else 0.0)
    u1, grad1 = _evaluate(target, x)
    xs, grads, energies = [x], [grad1], [u1]
    for k in range(n_steps):
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        after = x - h * (k / n_steps) * grad1 + (2 * h) ** 0.5 * noise
        alive = alive & _sound(after)
        x = torch.where(alive[:, None, None], after, x)
        u1, grad1 = _evaluate(target, x)
        xs.append(x)
        grads.append(grad1)
        energies.append(u1)
    return Paths(torch.stack(xs), torch.stack(grads), torch.stack(energies), alive, sound, h)


def path_weights(paths: Paths, proposal: Proposal, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Exact log weights of paths; needs the gradient of log q at K points of each.

    Parameters
    ----------
    log_q
        (B,) log density of the first points.

    Returns
    -------
    tuple[Tensor, Tensor]
        A (B,), -inf where there is no density, and log q (B,) of the last points.
    """
    total, last = -log_q.detach().double() - paths.u1[-1], log_q.detach().double()
    for k in range(paths.n_steps):
        t, before, after = k / paths.n_steps, paths.x[k], paths.x[k + 1]
        last, grad_log_q = proposal.log_prob_and_grad(after)
        noise = after - before + paths.h * t * paths.grad1[k]
        # Any finite drift backwards gives the right mean; zero serves where q has no gradient.
        back = t * paths.grad1[k + 1] - 2 * (1 - t) * torch.nan_to_num(grad_log_q.double(), 0.0, 0.0, 0.0)
        total = total + (noise.square() - (before - after + paths.h * back).square()).sum((1, 2)) / (4 * paths.h)
    return _weighted(total, paths), last.detach().double()


def ode_weights(paths: Paths, proposal: Proposal) -> tuple[Tensor, Tensor]:
    """Log weights by Euler steps of the differential equation with the exact Laplacian: biased at any finite step.

    It takes 3 N gradients of a gradient at each point, for comparison with what was published.

    Returns
    -------
    tuple[Tensor, Tensor]
        As `path_weights`.
    """
    total, k_max = torch.zeros_like(paths.u1[0]), paths.n_steps
    for k in range(k_max):
        t, x, grad1 = k / k_max, paths.x[k], paths.grad1[k]
        u0, grad0, laplacian = energy_and_laplacian(proposal, x)
        drift = laplacian - (1 - t) * grad0.square().sum((1, 2)) - t * (grad0 * grad1).sum((1, 2))
        total = total + paths.h * (1 - t) * drift + (u0 - paths.u1[k]) / k_max
    return _weighted(total, paths), proposal.log_prob(paths.x[-1]).detach().double()


def energy_and_laplacian(proposal: Proposal, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return u0 = -log q (B,), its gradient (B, N, 3) and its exact Laplacian (B,) at `x` (B, N, 3)."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        u0 = -proposal.log_prob(leaf)
        (grad,) = torch.autograd.grad(u0.sum(), leaf, create_graph=True)
        flat, laplacian = grad.flatten(1), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for i in range(flat.shape[1]):
            column = flat[:, i].sum()
            if column.requires_grad:
                (second,) = torch.autograd.grad(column, leaf, retain_graph=True)
                laplacian += second.flatten(1)[:, i].double()
    return u0.detach().double(), grad.detach().double(), laplacian


def _evaluate(target: Target, x: Tensor) -> tuple[Tensor, Tensor]:
    """Energies, inf where not finite, and gradients, zero where not finite."""
    u, grad = target.u_and_grad(x)
    u, grad = u.detach().double(), grad.detach().double()
    fine = torch.isfinite(grad).all(-1).all(-1)[:, None, None]
    return torch.where(torch.isfinite(u), u, torch.inf), torch.where(fine, grad, 0.0)


def _weighted(total: Tensor, paths: Paths) -> Tensor:
    sound = paths.alive & torch.isfinite(total) & torch.isfinite(paths.u1[-1])
    return torch.where(sound, total, -torch.inf)


def _sound(x: Tensor) -> Tensor:
    return (x.abs() < FARTHEST).all(-1).all(-1)
