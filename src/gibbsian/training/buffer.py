"""A store of a flow's own weighted samples, each with the density of the generator that made it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Buffer:
    """Generations of (x, u, log q) with self-normalised weights.

    A sample keeps the log density of its own generator: using a later flow's density instead would be biased. Each
    generation is normalised by itself and enters in proportion to its effective size, so that a poor early generation
    cannot outvote a good one.

    Attributes
    ----------
    x, log_w
        Per generation: (n, n_atoms, 3) float32 nm and (n,) float64 log weights -u - log q, normalised to sum one.
    """

    x: list[Tensor] = field(default_factory=list)
    log_w: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(x) for x in self.x)

    def add(self, x: Tensor, u: Tensor, log_q: Tensor) -> float:
        """Store one generation and return its effective sample size; non-finite energies have weight zero."""
        log_w = torch.nan_to_num(-u - log_q, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        log_w = log_w - torch.logsumexp(log_w, 0)
        keep = torch.isfinite(log_w)
        self.x.append(x[keep].float())
        self.log_w.append(log_w[keep].double())
        return float(torch.exp(-torch.logsumexp(2.0 * self.log_w[-1], 0)))

    def merged(self) -> tuple[Tensor, Tensor]:
        """All samples (n, n_atoms, 3) and their log weights (n,), normalised to sum one."""
        sizes = torch.stack([-torch.logsumexp(2.0 * w, 0) for w in self.log_w])
        shares = torch.log_softmax(sizes, 0)
        return torch.cat(self.x), torch.cat([w + s for w, s in zip(self.log_w, shares, strict=True)])

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for a checkpoint."""
        pairs = [(f"{k}.x", x) for k, x in enumerate(self.x)]
        return dict(pairs + [(f"{k}.log_w", w) for k, w in enumerate(self.log_w)])

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Buffer":
        """Rebuild from `tensors`."""
        n = len(tensors) // 2
        return cls([tensors[f"{k}.x"] for k in range(n)], [tensors[f"{k}.log_w"] for k in range(n)])
