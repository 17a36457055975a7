"""Coulomb, Lennard-Jones and generalized Born over all unordered pairs, in blocks that stay in the cache.

Born radii couple all pairs, so each batch takes three sweeps over the blocks: Born sums; energies with forces at fixed
radii; forces through the radii. What a later sweep needs is kept for the whole batch, the rest is scratch of one block.
"""

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.born import Born
from gibbsian.potentials.torch.born import BornAtoms, BornPairs
from gibbsian.potentials.torch.coefficients import PairTable
from gibbsian.potentials.torch.workspace import Workspace


def shortest(dtype: torch.dtype) -> float:
    """Distance (nm) below which pairs are treated as that far apart, so that 1/r^14 cannot overflow."""
    return 1e-3 if dtype == torch.float32 else 1e-6


class PairBlock:
    """A run of consecutive pairs with its coefficients, (n, 1) each."""

    def __init__(self, rows: slice, table: PairTable, dtype: torch.dtype, device: torch.device):
        def column(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values[rows, None], dtype=dtype, device=device).contiguous()

        self.rows = rows
        self.n = len(table.i[rows])
        self.i = torch.as_tensor(table.i[rows].copy(), device=device)
        self.j = torch.as_tensor(table.j[rows].copy(), device=device)
        self.charge = column(table.charge)
        self.a, self.b, self.b6 = column(table.a), column(table.b), column(6 * table.b)
        self.shortest2 = shortest(dtype) ** 2
        self.cut = bool(np.isfinite(table.cutoff[rows]).any())
        self.cutoff2 = column(table.cutoff**2)
        self.field, self.shift = column(table.charge * table.field), column(table.charge * table.shift)

    def geometry(self, plan: "_Plan", work: Workspace) -> None:
        """Difference vectors, squared distances and inverse distances."""
        other = plan.scratch[0]
        for place, d in zip(work.x.components, plan.d.components, strict=True):
            torch.index_select(place, 0, self.i, out=d)
            d.sub_(torch.index_select(place, 0, self.j, out=other))
        plan.d.dot(plan.d, plan.r2).clamp_(min=self.shortest2)
        torch.rsqrt(plan.r2, out=plan.inverse)

    def direct(self, plan: "_Plan", energy: Tensor) -> None:
        """Add Coulomb and Lennard-Jones energies; write force over distance."""
        inverse, push = plan.inverse, plan.push
        inverse2, inverse6, value, coulomb, _ = plan.scratch
        torch.mul(inverse, inverse, out=inverse2)
        torch.mul(inverse2, inverse2, out=inverse6).mul_(inverse2)
        torch.mul(inverse6, self.a, out=value).sub_(self.b).mul_(inverse6)
        torch.mul(inverse, self.charge, out=coulomb)
        torch.add(coulomb, value, alpha=12.0, out=push).add_(inverse6.mul_(self.b6)).mul_(inverse2)
        value.add_(coulomb)
        if self.cut:
            push.sub_(self.field, alpha=2.0)
            value.add_(torch.mul(plan.r2, self.field, out=coulomb)).sub_(self.shift)
            outside = plan.r2 > self.cutoff2
            value.masked_fill_(outside, 0.0)
            push.masked_fill_(outside, 0.0)
        energy.add_(value.sum(0, dtype=torch.float64))

    def scatter(self, plan: "_Plan", work: Workspace) -> None:
        """Add force over distance times the difference vectors to the atoms."""
        pushed = plan.scratch[0]
        for d, force in zip(plan.d.components, work.force.components, strict=True):
            torch.mul(d, plan.push, out=pushed)
            force.index_add_(0, self.i, pushed)
            force.index_add_(0, self.j, pushed, alpha=-1)


class _Plan:
    """Memory of one block.

    What a later sweep needs is the block's own: difference vectors, r^2, 1/r, force over distance and derivatives
    of the screening integrals by r. Scratch is shared by all blocks.
    """

    def __init__(self, work: Workspace, number: int, n: int):
        self.d = work.vectors(f"d{number}", n)
        self.r2, self.inverse, self.push, self.slope_i, self.slope_j = (
            work.scalars(f"{name}{number}", n) for name in ("r2 ", "inverse ", "push ", "slope i ", "slope j ")
        )
        self.slopes = (self.slope_i, self.slope_j)
        self.r = work.scalars("r", n)
        self.scratch = [work.scalars(f"scratch{k}", n) for k in range(5)]


class Pairs:
    """All pair terms."""

    def __init__(self, table: PairTable, born: Born | None, block: int, dtype: torch.dtype, device: torch.device):
        n = len(table.i)
        cuts = [slice(start, min(start + block, n)) for start in range(0, n, block)]
        self.blocks = [PairBlock(rows, table, dtype, device) for rows in cuts]
        self.atoms = None if born is None else BornAtoms(born, dtype, device)
        self.born = (
            [] if born is None else [BornPairs(born, table.i[rows], table.j[rows], dtype, device) for rows in cuts]
        )

    def add(self, work: Workspace, energy: Tensor) -> None:
        """Add energies and forces."""
        plans = work.plan(self, lambda work: [_Plan(work, k, b.n) for k, b in enumerate(self.blocks)])
        if self.atoms is None:
            for block, plan in zip(self.blocks, plans, strict=True):
                block.geometry(plan, work)
                block.direct(plan, energy)
                block.scatter(plan, work)
            return
        parts = list(zip(self.blocks, self.born, plans, strict=True))
        sums = work.scalars("born sums", work.n_atoms).zero_()
        for block, born, plan in parts:
            block.geometry(plan, work)
            torch.mul(plan.r2, plan.inverse, out=plan.r)
            born.sums(plan.r, plan.inverse, plan.slopes, sums, plan.scratch)
        radii, radii_slope = self.atoms.radii(sums)
        by_log = work.scalars("by log radius", work.n_atoms).zero_()
        for block, born, plan in parts:
            block.direct(plan, energy)
            born.energy(plan.r2, radii, plan.push, by_log, energy, plan.scratch)
        by_sum = self.atoms.close(radii, by_log, energy).mul_(radii_slope)
        for block, born, plan in parts:
            born.chain(by_sum, plan.slopes, plan.inverse, plan.push, plan.scratch)
            block.scatter(plan, work)
