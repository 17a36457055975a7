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


class Kept:
    """Per-pair quantities of a whole batch: difference vectors, r^2, 1/r, force over distance, Born slopes."""

    def __init__(self, n_pairs: int, batch: int, born: bool, work: Workspace):
        self.d = work("d", 3, n_pairs, batch)
        self.r2 = work("r2", n_pairs, batch)
        self.inverse = work("inverse", n_pairs, batch)
        self.push = work("push", n_pairs, batch)
        self.slopes = work("slopes", 2, n_pairs, batch) if born else None


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
        self.cut = bool(np.isfinite(table.cutoff[rows]).any())
        self.cutoff2 = column(table.cutoff**2)
        self.field, self.shift = column(table.charge * table.field), column(table.charge * table.shift)

    def geometry(self, x: Tensor, kept: Kept, work: Workspace) -> None:
        """Difference vectors, squared distances and inverse distances."""
        other = work("scratch0", self.n, x.shape[2])
        d, r2 = kept.d[:, self.rows], kept.r2[self.rows]
        for component in range(3):
            torch.index_select(x[component], 0, self.i, out=d[component])
            d[component].sub_(torch.index_select(x[component], 0, self.j, out=other))
        torch.mul(d[0], d[0], out=r2)
        r2.addcmul_(d[1], d[1]).addcmul_(d[2], d[2]).clamp_(min=shortest(r2.dtype) ** 2)
        torch.rsqrt(r2, out=kept.inverse[self.rows])

    def direct(self, kept: Kept, energy: Tensor, work: Workspace) -> None:
        """Add Coulomb and Lennard-Jones energies; write force over distance."""
        inverse, r2, push = kept.inverse[self.rows], kept.r2[self.rows], kept.push[self.rows]
        shape = r2.shape
        inverse2 = torch.mul(inverse, inverse, out=work("scratch0", *shape))
        inverse6 = torch.mul(inverse2, inverse2, out=work("scratch1", *shape)).mul_(inverse2)
        value = torch.mul(inverse6, self.a, out=work("scratch2", *shape)).sub_(self.b).mul_(inverse6)
        coulomb = torch.mul(inverse, self.charge, out=work("scratch3", *shape))
        torch.add(coulomb, value, alpha=12.0, out=push).add_(inverse6.mul_(self.b6)).mul_(inverse2)
        value.add_(coulomb)
        if self.cut:
            push.sub_(self.field, alpha=2.0)
            value.add_(torch.mul(r2, self.field, out=coulomb)).sub_(self.shift)
            outside = r2 > self.cutoff2
            value.masked_fill_(outside, 0.0)
            push.masked_fill_(outside, 0.0)
        energy.add_(value.sum(0, dtype=torch.float64))

    def scatter(self, kept: Kept, force: Tensor, work: Workspace) -> None:
        """Add force over distance times the difference vectors to the atoms."""
        push = kept.push[self.rows]
        pushed = work("scratch0", *push.shape)
        for component in range(3):
            torch.mul(kept.d[component][self.rows], push, out=pushed)
            force[component].index_add_(0, self.i, pushed)
            force[component].index_add_(0, self.j, pushed, alpha=-1)


class Pairs:
    """All pair terms; adds energies (B,), float64, and forces (3, n_atoms, B)."""

    def __init__(
        self, table: PairTable, born: Born | None, block: int, dtype: torch.dtype, device: torch.device
    ):
        self.n = len(table.i)
        cuts = [slice(start, min(start + block, self.n)) for start in range(0, self.n, block)]
        self.blocks = [PairBlock(rows, table, dtype, device) for rows in cuts]
        self.atoms = None if born is None else BornAtoms(born, dtype, device)
        self.born = (
            []
            if born is None
            else [BornPairs(born, table.i[rows], table.j[rows], dtype, device) for rows in cuts]
        )

    def add(self, x: Tensor, energy: Tensor, force: Tensor, work: Workspace) -> None:
        """Add energies and forces."""
        kept = Kept(self.n, x.shape[2], self.atoms is not None, work)
        if self.atoms is None:
            for block in self.blocks:
                block.geometry(x, kept, work)
                block.direct(kept, energy, work)
                block.scatter(kept, force, work)
            return
        assert kept.slopes is not None
        sums = work("born sums", *x.shape[1:]).zero_()
        for block, born in zip(self.blocks, self.born, strict=True):
            block.geometry(x, kept, work)
            rows = block.rows
            born.sums(kept.r2[rows], kept.inverse[rows], kept.slopes[:, rows], sums, work)
        radii, radii_slope = self.atoms.radii(sums, work)
        by_log = work("by log radius", *x.shape[1:]).zero_()
        for block, born in zip(self.blocks, self.born, strict=True):
            block.direct(kept, energy, work)
            born.energy(kept.r2[block.rows], radii, kept.push[block.rows], by_log, energy, work)
        by_sum = self.atoms.close(radii, by_log, energy).mul_(radii_slope)
        for block, born in zip(self.blocks, self.born, strict=True):
            rows = block.rows
            born.chain(by_sum, kept.slopes[:, rows], kept.inverse[rows], kept.push[rows], work)
            block.scatter(kept, force, work)
