"""A store of a flow's own weighted samples, each with the density of the generator that made it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

COLUMNS = ("x", "log_w", "log_q", "log_size")


@dataclass
class Buffer:
    """Generations of (x, log w, log q) with self-normalised weights.

    A sample keeps the log density of its own generator: using a later flow's density instead would be biased. Each
    generation is normalised by itself and enters in proportion to its effective size, so that a poor early generation
    cannot outvote a good one.

    Attributes
    ----------
    x, log_w
        Per generation: (n, n_atoms, 3) float32 nm and (n,) float64 log weights, normalised to sum one.
    log_q
        Per generation: (n,) float64 log density of the generator at `x`.
    log_size
        Per generation: logarithm of its effective number of samples, ().
    """

    x: list[Tensor] = field(default_factory=list)
    log_w: list[Tensor] = field(default_factory=list)
    log_q: list[Tensor] = field(default_factory=list)
    log_size: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(x) for x in self.x)

    def add(self, x: Tensor, u: Tensor, log_q: Tensor) -> float:
        """Store one generation and return its effective sample size; non-finite energies have weight zero."""
        log_w = torch.nan_to_num(-u - log_q, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
        return self.add_weighted(x, log_w, log_q)

    def add_weighted(self, x: Tensor, log_w: Tensor, log_q: Tensor, effective: float | None = None) -> float:
        """Store a generation with log weights (n,), and its effective number where the weights do not tell it."""
        keep = torch.isfinite(log_w)
        log_w = (log_w[keep] - torch.logsumexp(log_w[keep], 0)).double()
        self.x.append(x[keep].float())
        self.log_w.append(log_w)
        self.log_q.append(log_q[keep].double())
        size = torch.exp(-torch.logsumexp(2.0 * log_w, 0)) if effective is None else log_w.new_tensor(effective)
        self.log_size.append(size.log())
        return float(self.log_size[-1].exp())

    def keep_last(self, generations: int) -> None:
        """Forget all but the last generations."""
        for column in (self.x, self.log_w, self.log_q, self.log_size):
            del column[:-generations]

    @property
    def effective(self) -> float:
        """Sum of the effective numbers of all generations."""
        return float(torch.stack(self.log_size).exp().sum())

    def merged(self) -> tuple[Tensor, Tensor]:
        """All samples (n, n_atoms, 3) and their log weights (n,), normalised to sum one."""
        shares = torch.log_softmax(torch.stack(self.log_size), 0)
        return torch.cat(self.x), torch.cat([w + s for w, s in zip(self.log_w, shares, strict=True)])

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for a checkpoint."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        return {f"{k}.{name}": tensor for name, column in columns.items() for k, tensor in enumerate(column)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Buffer":
        """Rebuild from `tensors`."""
        n = len(tensors) // len(COLUMNS)
        return cls(*([tensors[f"{k}.{name}"] for k in range(n)] for name in COLUMNS))
