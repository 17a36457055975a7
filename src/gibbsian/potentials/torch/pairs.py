"""Coulomb, Lennard-Jones and generalized Born over all unordered pairs, in blocks that stay in the cache.

Pairs are (i, i + k mod n) for k = 1..n/2, a row of n pairs for each k. Of an array that holds the atoms twice, such
a row is a shifted view, and so is the sum back onto the atoms: nothing is gathered or scattered. For an even number of
atoms half of the last row repeats the other half and has coefficients of zero.

Born radii couple all pairs, so each batch takes three sweeps over the blocks: Born sums; energies with forces at
fixed radii; forces through the radii.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.parameters import Parameters
from gibbsian.potentials.coefficients import PairTable, pair_table, shortest
from gibbsian.potentials.torch.born import BornAtoms, BornPairs
from gibbsian.potentials.torch.workspace import Workspace


class Circle:
    """Views of a run of rows k = first..last: the only place that knows the layout."""

    def __init__(self, n_atoms: int, first: int, last: int):
        self.n_atoms, self.first, self.rows = n_atoms, first, last - first + 1
        k = np.arange(first, last + 1)[:, None]
        atoms = np.arange(n_atoms)[None]
        self.i = np.broadcast_to(atoms, (self.rows, n_atoms)).reshape(-1)
        self.j = ((atoms + k) % n_atoms).reshape(-1)
        self.repeated = np.broadcast_to((2 * k == n_atoms) & (2 * atoms >= n_atoms), (self.rows, n_atoms)).reshape(-1)

    def of_i(self, twice: Tensor) -> Tensor:
        """Values of the first atoms, (rows, n_atoms, B), given (2 n_atoms, B)."""
        batch = twice.shape[1]
        return twice.as_strided((self.rows, self.n_atoms, batch), (0, batch, 1), twice.storage_offset())

    def of_j(self, twice: Tensor) -> Tensor:
        """Values of the second atoms."""
        batch = twice.shape[1]
        offset = twice.storage_offset() + self.first * batch
        return twice.as_strided((self.rows, self.n_atoms, batch), (batch, batch, 1), offset)

    def by_j(self, twice: Tensor) -> Tensor:
        """Per-pair values (rows, 2 n_atoms, B), each row held twice, ordered by the second atom."""
        batch = twice.shape[2]
        return twice.as_strided(
            (self.rows, self.n_atoms, batch),
            ((2 * self.n_atoms - 1) * batch, batch, 1),
            twice.storage_offset() + (self.n_atoms - self.first) * batch,
        )


class PairViews:
    """Memory of one block.

    What a later sweep needs is the block's own: difference vectors, r^2, 1/r, force over distance and derivatives
    of the screening integrals by r. Scratch is shared by all blocks.
    """

    def __init__(self, work: Workspace, circle: Circle):
        n = circle.rows * circle.n_atoms
        self.shape = (circle.rows, circle.n_atoms, work.batch)
        name = f"of {circle.first}"
        self.d = work.vectors(f"d {name}", n)
        self.d_rows = [component.view(self.shape) for component in self.d.components]
        self.x_i = [circle.of_i(twice) for twice in work.x_twice.components]
        self.x_j = [circle.of_j(twice) for twice in work.x_twice.components]
        self.r2, self.inverse, self.push, slope_i, slope_j = (
            work.scalars(f"{kind} {name}", n) for kind in ("r2", "inverse", "push", "slope i", "slope j")
        )
        self.push_rows = self.push.view(self.shape)
        self.slopes = (slope_i, slope_j)
        self.slope_rows = (slope_i.view(self.shape), slope_j.view(self.shape))
        self.r = work.scalars("r", n)
        self.scratch = [work.scalars(f"scratch{k}", n) for k in range(5)]
        self.scratch_rows = [scratch.view(self.shape) for scratch in self.scratch]
        self.twice = work.scalars("pairs twice", 2 * n).view(circle.rows, 2 * circle.n_atoms, work.batch)
        self.once = self.twice[:, : circle.n_atoms]
        self.again = self.twice[:, circle.n_atoms :]
        self.by_j = circle.by_j(self.twice)
        self.radii = work.scalars("radii twice", 2 * circle.n_atoms)
        self.radii_i, self.radii_j = circle.of_i(self.radii), circle.of_j(self.radii)

    def onto_i(self, values: Tensor) -> Tensor:
        """Sum per-pair values onto the first atoms, (n_atoms, B)."""
        return values.view(self.shape).sum(0)

    def onto_j(self, values: Tensor) -> Tensor:
        """Sum per-pair values onto the second atoms."""
        self.once.copy_(values.view(self.shape))
        self.again.copy_(self.once)
        return self.by_j.sum(0)


class PairBlock:
    """Coulomb and Lennard-Jones of a run of pairs; coefficients are (n, 1)."""

    def __init__(self, table: PairTable, dtype: torch.dtype, device: torch.device):
        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[:, None], dtype=dtype, device=device).contiguous()

        self.charge = column(table.charge)
        self.a, self.b, self.b6 = column(table.a), column(table.b), column(6 * table.b)
        self.shortest2 = shortest(dtype) ** 2
        self.cut = bool(np.isfinite(table.cutoff).any())
        self.cutoff2 = column(table.cutoff**2)
        self.field, self.shift = column(table.charge * table.field), column(table.charge * table.shift)

    def geometry(self, views: PairViews) -> None:
        """Difference vectors, squared distances and inverse distances."""
        for x_i, x_j, d in zip(views.x_i, views.x_j, views.d_rows, strict=True):
            torch.sub(x_i, x_j, out=d)
        views.d.dot(views.d, views.r2).clamp_(min=self.shortest2)
        torch.rsqrt(views.r2, out=views.inverse)

    def direct(self, views: PairViews, energy: Tensor) -> None:
        """Add Coulomb and Lennard-Jones energies; write force over distance."""
        inverse, push = views.inverse, views.push
        inverse2, inverse6, value, coulomb, _ = views.scratch
        torch.mul(inverse, inverse, out=inverse2)
        torch.mul(inverse2, inverse2, out=inverse6).mul_(inverse2)
        torch.mul(inverse6, self.a, out=value).sub_(self.b).mul_(inverse6)
        torch.mul(inverse, self.charge, out=coulomb)
        torch.add(coulomb, value, alpha=12.0, out=push).add_(inverse6.mul_(self.b6)).mul_(inverse2)
        value.add_(coulomb)
        if self.cut:
            push.sub_(self.field, alpha=2.0)
            value.add_(torch.mul(views.r2, self.field, out=coulomb)).sub_(self.shift)
            outside = views.r2 > self.cutoff2
            value.masked_fill_(outside, 0.0)
            push.masked_fill_(outside, 0.0)
        energy.add_(value.sum(0, dtype=torch.float64))

    def scatter(self, views: PairViews, work: Workspace) -> None:
        """Add force over distance times the difference vectors to the atoms."""
        for d, force in zip(views.d_rows, work.force.components, strict=True):
            torch.mul(d, views.push_rows, out=views.once)
            views.again.copy_(views.once)
            force.add_(views.once.sum(0)).sub_(views.by_j.sum(0))


class Pairs:
    """All pair terms."""

    def __init__(self, parameters: Parameters, rows: int, dtype: torch.dtype, device: torch.device):
        n, born = parameters.n_atoms, parameters.born
        step = max(rows // n, 1)
        self.circles = [Circle(n, k, min(k + step - 1, n // 2)) for k in range(1, n // 2 + 1, step)]
        full = pair_table(
            parameters.nonbonded,
            np.concatenate([circle.i for circle in self.circles]),
            np.concatenate([circle.j for circle in self.circles]),
            np.concatenate([circle.repeated for circle in self.circles]),
        )
        sizes = np.cumsum([0, *(len(circle.i) for circle in self.circles)])
        self.blocks = [PairBlock(full.rows(slice(start, stop)), dtype, device) for start, stop in pairwise(sizes)]
        self.atoms = None if born is None else BornAtoms(born, dtype, device)
        self.born = (
            [BornPairs(born, c.i, c.j, c.repeated, dtype, device) for c in self.circles] if born is not None else []
        )

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies and forces."""
        all_views = work.plan(self, lambda work: [PairViews(work, circle) for circle in self.circles])
        if self.atoms is None:
            for block, views in zip(self.blocks, all_views, strict=True):
                block.geometry(views)
                block.direct(views, energy)
                block.scatter(views, work)
            return
        parts = list(zip(self.blocks, self.born, all_views, strict=True))
        sums = work.scalars("born sums", work.n_atoms).zero_()
        for block, born, views in parts:
            block.geometry(views)
            born.sums(views, sums)
        radii, radii_slope = self.atoms.radii(sums)
        torch.cat([radii, radii], out=work.scalars("radii twice", 2 * work.n_atoms))
        by_log = work.scalars("by log radius", work.n_atoms).zero_()
        for block, born, views in parts:
            block.direct(views, energy)
            born.energy(views, by_log, energy)
        by_sum = self.atoms.close(radii, by_log, energy).mul_(radii_slope)
        torch.cat([by_sum, by_sum], out=work.scalars("radii twice", 2 * work.n_atoms))
        for block, born, views in parts:
            born.chain(views)
            block.scatter(views, work)
