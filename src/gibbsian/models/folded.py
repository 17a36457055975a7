"""Folding a proposal that is blind to mirror images onto the handedness of a structure.

An E(3)-equivariant flow gives a conformation and its mirror image the same density, and also those that differ by an
exchange of equal hydrogens at one atom. The target has one hand only (`gibbsian.targets.handed`). So samples of the
other hand are brought over by a reflection and by exchanges, one for each wrong centre; each of these operations that
the molecule has doubles the density of every sample, moved or not:

    q'(x) = 2^m q(x),   m = 1 (if there are stereocentres) + number of centres with two equal neighbours

(sbg specification 1.10; the published method leaves the factor out and counts both enantiomers). A sample with some
stereocentres right and some wrong cannot be repaired. It keeps its coordinates, its density has no factor for the
reflection, and the target gives it weight zero.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gibbsian.chem.equivalence import atom_classes, twins_at
from gibbsian.chem.topology import Topology
from gibbsian.models.base import Proposal


@dataclass(frozen=True)
class FoldCounts:
    """What folding did to `n` samples: mirrored as a whole, left with mixed hands, hydrogens exchanged.

    `exchanged` counts samples with at least one exchange that the reflection alone did not mend.
    """

    n: int
    inverted: int
    mixed: int
    exchanged: int

    def __add__(self, other: "FoldCounts") -> "FoldCounts":
        return FoldCounts(
            self.n + other.n,
            self.inverted + other.inverted,
            self.mixed + other.mixed,
            self.exchanged + other.exchanged,
        )


@dataclass(frozen=True, eq=False)
class Handedness:
    """The hand of every atom with four neighbours.

    Attributes
    ----------
    stereo, twins
        (s, 4) and (m, 4) indices of an atom and its first three neighbours: of stereocentres, whose neighbours
        differ, and of centres where two are equal.
    stereo_signs, twin_signs
        (s,) and (m,) signs of the volume that the three bonds span.
    pairs
        (m, 2) the two equal neighbours whose exchange changes the hand.
    exchanged
        (m, 4) `twins` after that exchange.
    """

    stereo: Tensor
    stereo_signs: Tensor
    twins: Tensor
    twin_signs: Tensor
    pairs: Tensor
    exchanged: Tensor

    @classmethod
    def of(cls, topology: Topology, positions: Tensor) -> Self:
        """Read the hands of a structure, `positions` (n_atoms, 3)."""
        classes = atom_classes(topology)
        stereo, twins, pairs, exchanged = [], [], [], []
        for centre, neighbours in enumerate(topology.neighbours):
            if len(neighbours) != 4:
                continue
            pair = twins_at(topology, centre, classes)
            if pair is None:
                stereo.append((centre, *neighbours[:3]))
            else:
                other = {pair[0]: pair[1], pair[1]: pair[0]}
                twins.append((centre, *neighbours[:3]))
                pairs.append(pair)
                exchanged.append((centre, *(other.get(atom, atom) for atom in neighbours[:3])))
        atoms = [torch.tensor(rows, dtype=torch.long).reshape(-1, 4) for rows in (stereo, twins, exchanged)]
        signs = [volumes(positions[None].double(), rows)[0].sign() for rows in atoms[:2]]
        swaps = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        return cls(atoms[0], signs[0], atoms[1], signs[1], swaps, atoms[2])

    def signs(self, x: Tensor) -> Tensor:
        """Return the hand of every centre, -1 or 1, of conformations `x` (B, n, 3): (B, s + m)."""
        return torch.cat([volumes(x, self.stereo), volumes(x, self.twins)], 1).sign()

    def fold(self, x: Tensor) -> tuple[Tensor, FoldCounts]:
        """Bring conformations (B, n, 3) to the right hand where that is possible; also say how often what was done."""
        right = self._right(x, self.stereo, self.stereo_signs)
        inverted = ~right.any(1) if right.shape[1] else torch.zeros(len(x), dtype=torch.bool, device=x.device)
        mixed = ~inverted & ~right.all(1)
        x = torch.where(inverted[:, None, None], -x, x)
        wrong = ~self._right(x, self.twins, self.twin_signs) & self._right(x, self.exchanged, self.twin_signs)
        index = torch.arange(x.shape[1], device=x.device).repeat(len(x), 1)
        first, second = self.pairs.to(x.device).unbind(1)
        index[:, first] = torch.where(wrong, second, first)
        index[:, second] = torch.where(wrong, first, second)
        x = x.gather(1, index[..., None].expand(-1, -1, 3))
        counts = FoldCounts(len(x), int(inverted.sum()), int(mixed.sum()), int(wrong.any(1).sum()))
        return x, counts

    def log_factor(self, x: Tensor) -> Tensor:
        """Log of q'(x) / q(x), (B,) float64; -inf where folded samples never are.

        Where the geometry is so far from tetrahedral that an exchange does not change the hand, there is none.
        """
        log_factor = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        right = self._right(x, self.stereo, self.stereo_signs)
        if right.shape[1]:
            log_factor = _doubled(right.all(1), ~right.any(1))
        good = self._right(x, self.twins, self.twin_signs)
        other = self._right(x, self.exchanged, self.twin_signs)
        return log_factor + _doubled(good & ~other, ~good & other).sum(1)

    def _right(self, x: Tensor, atoms: Tensor, signs: Tensor) -> Tensor:
        return volumes(x, atoms.to(x.device)) * signs.to(x) > 0


def _doubled(here: Tensor, elsewhere: Tensor) -> Tensor:
    """Log 2 where samples arrive from elsewhere, -inf where they leave, else 0."""
    log_factor = torch.where(here, math.log(2.0), torch.zeros((), dtype=torch.float64, device=here.device))
    return torch.where(elsewhere, -torch.inf, log_factor)


def volumes(x: Tensor, atoms: Tensor) -> Tensor:
    """Signed volumes (B, m) that three bonds of each centre span; `atoms` (m, 4) are the centre and its neighbours."""
    centre, a, b, c = atoms.unbind(1)
    origin = x[:, centre]
    return (torch.linalg.cross(x[:, a] - origin, x[:, b] - origin) * (x[:, c] - origin)).sum(-1)


class Folded:
    """A proposal folded onto one handedness, itself a `Proposal`.

    Parameters
    ----------
    proposal
        With a density that neither reflection nor exchanges of twins (`gibbsian.chem.equivalence`) change.
    handedness
        What to fold onto.
    """

    def __init__(self, proposal: Proposal, handedness: Handedness) -> None:
        self.proposal, self.handedness = proposal, handedness
        self.n_atoms = proposal.n_atoms
        self.counts = FoldCounts(0, 0, 0, 0)
        """What was done to all samples so far."""

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm, folded, and their log q (n,)."""
        x, log_q = self.proposal.sample(n, generator)
        x, counts = self.handedness.fold(x)
        self.counts = self.counts + counts
        return x, log_q + self.handedness.log_factor(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (B,) of `x` (B, n_atoms, 3) nm; -inf for the wrong hand."""
        return self.proposal.log_prob(x) + self.handedness.log_factor(x)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient with respect to x (B, n_atoms, 3) in 1/nm."""
        log_q, grad = self.proposal.log_prob_and_grad(x)
        return log_q + self.handedness.log_factor(x), grad

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) that the proposal gives to the centre of mass."""
        return self.proposal.log_gauge(x)
