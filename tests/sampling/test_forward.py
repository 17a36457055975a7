import numpy as np
import pytest
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.sampling.forward import forward_ess
from gibbsian.sampling.importance import sample_snis
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.sampling import Broken, MixtureProposal, SamplingOnly, broad_proposal, mixture_target
from gibbsian.testing.toys import GaussianMixture, toy_system

TOPOLOGY = toy_system(np.zeros((1, 3))).topology


def held_out(mixture: GaussianMixture, n: int, log_w=None) -> Ensemble:
    x = mixture.sample(n, torch.Generator().manual_seed(5)).numpy().astype(np.float32)
    return Ensemble(x, np.zeros(n) if log_w is None else log_w, TOPOLOGY, 300.0)


def test_ideal_proposal_has_one():
    mixture, target = mixture_target()
    ideal = MixtureProposal(GaussianMixture(weights=torch.tensor([0.8, 0.2])))
    found = forward_ess(ideal, target, held_out(mixture, 300))
    assert found.fraction == pytest.approx(1.0, abs=1e-6)
    assert found.n == 300
    assert found.missed == 0.0
    assert found.covered == found.fraction


def test_equals_the_reverse_one_where_nothing_is_lost():
    mixture, target = mixture_target()
    reverse = sample_snis(broad_proposal(), target, 20_000, topology=TOPOLOGY, temperature=300.0, chunk=5000)
    forward = forward_ess(broad_proposal(), target, held_out(mixture, 20_000))
    assert forward.fraction == pytest.approx(reverse.ess_fraction, rel=0.05)


def test_weighted_frames_give_the_same():
    mixture, target = mixture_target()
    # Frames of an even mixture, weighted back to 80 : 20 as MBAR would.
    even = GaussianMixture(weights=torch.tensor([0.5, 0.5]))
    x = held_out(even, 20_000).positions
    weighted = Ensemble(x, np.where(x[:, 0, 0] > 0, np.log(0.2), np.log(0.8)), TOPOLOGY, 300.0)
    plain = forward_ess(broad_proposal(), target, held_out(mixture, 20_000))
    assert forward_ess(broad_proposal(), target, weighted).fraction == pytest.approx(plain.fraction, rel=0.05)


def test_a_lost_mode_is_seen_only_forward():
    far = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    mixture = GaussianMixture(means=far)
    target = Boltzmann(mixture, 300.0)
    lost = MixtureProposal(GaussianMixture(means=far, weights=torch.tensor([1.0, 1e-12])))
    reverse = sample_snis(lost, target, 2000, topology=TOPOLOGY, temperature=300.0)
    assert reverse.ess_fraction > 0.99
    found = forward_ess(lost, target, held_out(mixture, 2000))
    assert found.fraction < 1e-6
    share = float((held_out(mixture, 2000).positions[:, 0, 0] > 0).mean())
    assert found.missed == pytest.approx(share)
    assert found.covered == pytest.approx(1.0, abs=1e-6)


def test_no_density_and_broken_frames():
    class Blind(MixtureProposal):
        def log_prob(self, x):
            return torch.full((len(x),), -torch.inf, dtype=torch.float64)

    mixture, target = mixture_target()
    frames = held_out(mixture, 200)
    assert forward_ess(Blind(mixture), target, frames) == pytest.approx((0.0, 200, 1.0, 0.0))
    right = int((frames.positions[:, 0, 0] > 0).sum())
    assert forward_ess(broad_proposal(), Broken(target, 0.0), frames).n == 200 - right
    with pytest.raises(InputError, match="SamplingOnly"):
        forward_ess(SamplingOnly(broad_proposal()), target, frames)
    with pytest.raises(InputError, match="no held-out frame"):
        forward_ess(broad_proposal(), Broken(target, -np.inf), frames)
