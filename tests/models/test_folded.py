import math

import pytest
import torch
from molecules_of_springs import MOLECULES, TEMPERATURE, molecule, spread_out, springs, width_of
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.models.folded import FoldCounts, Folded, Handedness
from gibbsian.targets.handed import Handed
from gibbsian.testing.toys import HarmonicMolecule


class Normal:
    """Independent normal atoms without a centre: blind to everything that springs are blind to."""

    def __init__(self, n_atoms: int, width: float) -> None:
        self.n_atoms, self.width = n_atoms, width

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.width * torch.randn(n, self.n_atoms, 3, generator=generator, dtype=torch.float64)
        x = x - x.mean(1, keepdim=True)
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        constant = 1.5 * (self.n_atoms - 1) * math.log(2 * math.pi * self.width**2)
        return -0.5 * x.square().sum((1, 2)) / self.width**2 - constant

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_prob(x), -(x - x.mean(1, keepdim=True)) / self.width**2

    def log_gauge(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.float64)


def folded(topology: Topology) -> tuple[Folded, Handed]:
    start = spread_out(topology, 1)[0]
    return Folded(Normal(topology.n_atoms, 1.1 * width_of(topology)), Handedness.of(topology, start)), Handed(
        springs(topology), topology, start
    )


@pytest.mark.parametrize("name", MOLECULES)
def test_log_z_is_that_of_one_hand(name: str) -> None:
    """Without the factor of the fold, log Z would be that of all mirror images together."""
    topology, copies = MOLECULES[name]
    proposal, target = folded(topology)
    n = 40_000
    x, log_q = proposal.sample(n, torch.Generator().manual_seed(1))
    assert bool(torch.isfinite(log_q).all())
    w = torch.exp(-target.u(x) - log_q - HarmonicMolecule(topology.n_atoms).log_z(TEMPERATURE))
    error = float(w.std()) / math.sqrt(n)
    assert error < 0.05 / copies
    assert abs(float(w.mean()) - 1 / copies) < 4 * error


@pytest.mark.parametrize("name", MOLECULES)
def test_density_of_folded_samples_is_found_again(name: str) -> None:
    topology, copies = MOLECULES[name]
    proposal, target = folded(topology)
    x, log_q = proposal.sample(500, torch.Generator().manual_seed(2))
    assert torch.allclose(proposal.log_prob(x), log_q)
    right = target.right(x)
    factor = torch.exp(log_q[right] - proposal.proposal.log_prob(x[right]))
    assert float((factor - copies).abs().median()) < 1e-9
    assert bool((factor < copies + 1e-9).all()), "only where an exchange does not change the hand is it less"
    assert proposal.log_prob_and_grad(x)[1].shape == x.shape
    lost = (proposal.log_prob(-x[right]) == -torch.inf).double().mean()
    assert lost == 0.0 if copies == 1 else lost > 0.5, "the other hand has no density"


def test_mixed_hands_keep_their_place_and_are_counted() -> None:
    topology = molecule("CHNOCFON", [(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (4, 6), (4, 7)])
    start = spread_out(topology, 1)[0]
    hand = Handedness.of(topology, start)
    assert (len(hand.stereo), len(hand.twins)) == (2, 0)
    x = spread_out(topology, 4000, seed=3)
    moved, counts = hand.fold(x)
    right = (hand.signs(x) == hand.signs(start[None])).sum(1)
    assert torch.equal(moved[right == 1], x[right == 1])
    assert torch.equal(moved[right == 0], -x[right == 0])
    assert counts == FoldCounts(4000, int((right == 0).sum()), int((right == 1).sum()), 0)
    assert torch.allclose(hand.log_factor(moved[right == 1]), torch.zeros(1).double()), "no reflection, no factor"
    both = counts + counts
    assert both.n == 8000


def test_exchanges_mend_what_the_reflection_leaves_wrong() -> None:
    topology, _ = MOLECULES["both"]
    start = spread_out(topology, 1)[0]
    hand = Handedness.of(topology, start)
    swapped = start.clone()
    swapped[[5, 6]] = start[[6, 5]]
    mended, counts = hand.fold(torch.stack([start, swapped, -start, -swapped]))
    assert (counts.inverted, counts.mixed, counts.exchanged) == (2, 0, 2)
    assert bool((hand.signs(mended) == hand.signs(start[None])).all())
    assert torch.equal(mended[0], start)
    assert torch.equal(mended[2], start)
