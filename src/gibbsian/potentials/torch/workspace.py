"""Scratch memory and views that are kept between calls.

Fresh pages cost more than the arithmetic done in them, and making a view costs as much as an operation on a small
array.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

Plan = TypeVar("Plan")


class Vectors:
    """A (3, n, B) array with contiguous components at hand."""

    def __init__(self, values: Tensor):
        self.all = values
        self.components = values.unbind(0)

    def dot(self, other: "Vectors", out: Tensor) -> Tensor:
        """Scalar products, (n, B)."""
        (a, b, c), (p, q, r) = self.components, other.components
        torch.mul(a, p, out=out)
        return out.addcmul_(b, q).addcmul_(c, r)

    def cross(self, other: "Vectors", out: "Vectors") -> None:
        """Vector products; torch.linalg.cross starts threads for every small array."""
        (a, b, c), (p, q, r), (x, y, z) = self.components, other.components, out.components
        torch.mul(b, r, out=x).addcmul_(c, q, value=-1.0)
        torch.mul(c, p, out=y).addcmul_(a, r, value=-1.0)
        torch.mul(a, q, out=z).addcmul_(b, p, value=-1.0)

    def gather(self, index: Tensor, out: "Vectors") -> None:
        """Copy rows; one component at a time stays within the cache."""
        n = len(index)
        for source, target in zip(self.components, out.components, strict=True):
            torch.index_select(source, 0, index, out=target[:n])


class Scatter:
    """Sums rows onto atoms by gathering each atom's rows, padded with a row of zeros.

    `index_add_` does the same but starts threads for every small array.
    """

    def __init__(self, index: Tensor, n_atoms: int, rows: int):
        self.zero = len(index)
        order = torch.argsort(index, stable=True)
        degree = torch.bincount(index, minlength=n_atoms)
        deepest = int(degree.max()) if len(index) else 0
        table = torch.full((deepest, n_atoms), self.zero, dtype=torch.int64, device=index.device)
        rank = torch.arange(len(index), device=index.device) - (degree.cumsum(0) - degree)[index[order]]
        table[rank, index[order]] = order
        step = max(rows // n_atoms, 1)
        self.slabs = [slab.reshape(-1) for slab in table.split(step)]

    def add(self, values: Vectors, work: "Workspace") -> None:
        """Add (3, n + 1, B) rows, of which the last is zero, to the forces."""
        for slab in self.slabs:
            rows = work.plan(slab, partial(_slab, n=len(slab)))
            stack = rows.view(-1, work.n_atoms, work.batch)
            for force, source in zip(work.force.components, values.components, strict=True):
                torch.index_select(source, 0, slab, out=rows)
                force.add_(stack.sum(0))


def _slab(work: "Workspace", n: int) -> Tensor:
    return work.scalars("slab", n)


class Workspace:
    """Memory for batches of one size, used by one thread at a time.

    Attributes
    ----------
    x, force
        Coordinates and forces, (3, n_atoms, B): components, then atoms, then conformations, so that every operation
        works on long contiguous rows.
    """

    def __init__(self, n_atoms: int, batch: int, dtype: torch.dtype, device: torch.device):
        self.n_atoms, self.batch = n_atoms, batch
        self.dtype, self.device = dtype, device
        self._buffers: dict[str, Tensor] = {}
        self._plans: dict[int, object] = {}
        # The second copy lets pairs (i, i + k) be read as a shifted view, without gathering.
        self.x_twice = self.vectors("x", 2 * n_atoms)
        self.x = Vectors(self.x_twice.all[:, :n_atoms])
        self.force = self.vectors("force", n_atoms)

    def scalars(self, name: str, n: int) -> Tensor:
        """Uninitialised (n, B) array; the same name gives the same memory while it is large enough."""
        size = n * self.batch
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return buffer[:size].view(n, self.batch)

    def vectors(self, name: str, n: int) -> Vectors:
        """Uninitialised (3, n, B) array."""
        return Vectors(self.scalars(name, 3 * n).view(3, n, self.batch))

    def plan(self, owner: object, build: Callable[["Workspace"], Plan]) -> Plan:
        """Return what `build` makes of this workspace for `owner`; it is made once."""
        found = self._plans.get(id(owner))
        if found is None:
            found = self._plans[id(owner)] = build(self)
        return cast("Plan", found)
