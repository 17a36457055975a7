"""Scratch memory and views that are kept between calls.

Fresh pages cost more than the arithmetic done in them, and making a view costs as much as an operation on a small array.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor

Plan = TypeVar("Plan")


class Vectors:
    """A contiguous (3, n, B) array, with its components at hand."""

    def __init__(self, values: Tensor):
        self.all = values
        self.components = values.unbind(0)

    def dot(self, other: "Vectors", out: Tensor) -> Tensor:
        """Scalar products, (n, B)."""
        (a, b, c), (p, q, r) = self.components, other.components
        torch.mul(a, p, out=out)
        return out.addcmul_(b, q).addcmul_(c, r)

    def gather(self, index: Tensor, out: "Vectors") -> None:
        """Copy rows; one component at a time stays within the cache."""
        for source, target in zip(self.components, out.components, strict=True):
            torch.index_select(source, 0, index, out=target)

    def scatter(self, index: Tensor, values: "Vectors") -> None:
        """Add rows of `values` to these."""
        for target, source in zip(self.components, values.components, strict=True):
            target.index_add_(0, index, source)


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
        self.x = self.vectors("x", n_atoms)
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
        """What `build` makes of this workspace for `owner`, made once."""
        found = self._plans.get(id(owner))
        if found is None:
            found = self._plans[id(owner)] = build(self)
        return cast("Plan", found)
