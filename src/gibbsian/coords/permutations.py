"""Exact relabelling of equivalent atoms: the augmentation that leaves every energy unchanged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gibbsian.chem.residues import Symmetry


def random_relabelling(x: Tensor, groups: Sequence[Symmetry], generator: torch.Generator) -> Tensor:
    """Relabel each conformation of `x` (B, n, 3) by an independent random element of every symmetry group.

    The atoms themselves are exchanged, not torsions shifted by 120 degrees, which would be approximate because methyl
    groups are never exactly three-fold. Methyl and ammonium relabellings leave every energy unchanged; the swaps of
    Arg, Phe and Tyr do so up to Amber's improper torsions, whose atoms are listed in an order that depends on names.
    """
    index = torch.arange(x.shape[1]).repeat(len(x), 1)
    for group in groups:
        choice = torch.randint(group.order, (len(x),), generator=generator)
        index[:, list(group.atoms)] = torch.tensor(group.permutations)[choice]
    return x.gather(1, index[..., None].expand(-1, -1, 3).to(x.device))
