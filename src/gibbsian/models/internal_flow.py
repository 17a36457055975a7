"""What flows over internal coordinates have in common: they see no pose, and draw until all coordinates are valid."""

import torch
from torch import Tensor, nn

CHUNK = 4096


class InternalFlow(nn.Module):
    """A `Proposal` made of `log_prob` and `rsample`, which the flows themselves define."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm in the mean-free orthonormal measure, (B,) float64; -inf outside."""
        raise NotImplementedError

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations differentiably (n, n_atoms, 3) and log q of the generating path, for reverse KL."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm, centred, and log q (n,), both float64.

        The density is computed from the final coordinates, the same way as by `log_prob`.
        """
        parts = []
        for start in range(0, n, CHUNK):
            x, _ = self.rsample(min(CHUNK, n - start), generator)
            parts.append((x, self.log_prob(x)))
        positions, log_q = zip(*parts, strict=True)
        return torch.cat(positions), torch.cat(log_q)

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of each conformation, its negative log-likelihood (B,); inf outside the support."""
        return -self.log_prob(x)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient with respect to x (B, n_atoms, 3) in 1/nm, float64."""
        x = x.detach().double().requires_grad_(True)
        with torch.enable_grad():
            log_q = self.log_prob(x)
            (grad,) = torch.autograd.grad(log_q.sum(), x)
        return log_q.detach(), grad

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero: internal coordinates give no density to the centre of mass. (B,)."""
        return torch.zeros(len(x), dtype=torch.float64)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return training conformations (B, n_atoms, 3) as they are: the density does not depend on the pose."""
        return x
