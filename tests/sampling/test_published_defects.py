"""Defects of the published method that no other test would catch; docs/defects.md lists all of them."""

import gc
import math

import numpy as np
import pytest
import torch

import gibbsian as gb
from gibbsian.chem.library import built_in
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.evaluate.verdict import judge
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.langevin_paths import LangevinSettings, sample_langevin
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings, paper_settings
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.sampling import MixtureProposal, broad_proposal, mixture_target
from gibbsian.testing.toy_proposals import LoosePair
from gibbsian.testing.toys import DoubleWell, GaussianMixture, toy_system

TOPOLOGIES = {n: toy_system(np.zeros((n, 3))).topology for n in (1, 2)}
PAIR = Boltzmann(DoubleWell(), 300.0)


def anneal(proposal, target, n, seed=0, report=None, **options) -> Ensemble:
    more = {} if report is None else {"report": report}
    return sample_smc(
        proposal, target, n, topology=TOPOLOGIES[target.n_atoms], temperature=300.0, seed=seed,
        settings=SmcSettings(**options), **more,
    )  # fmt: skip


def test_d2_the_first_level_counts_and_the_last_is_the_target():
    """D1, D2: increments begin at t = 0 with a step of positive length and end at t = 1 exactly."""
    for options in ({"conditional_ess": None, "levels": 7}, {"conditional_ess": 0.9}):
        times = [0.0, *(level["t"] for level in anneal(LoosePair(), PAIR, 200, **options).provenance["levels"])]
        steps = np.diff(times)
        assert (steps > 0).all()
        assert times[-1] == 1.0
        assert steps.sum() == pytest.approx(1.0, abs=1e-14)
    assert len(anneal(LoosePair(), PAIR, 200, conditional_ess=None, levels=7).provenance["levels"]) == 7


def heavy() -> tuple[MixtureProposal, Boltzmann]:
    """Return a proposal of half the width of its target: the weights have no finite mean square."""
    narrow = GaussianMixture(means=torch.zeros(1, 3), weights=torch.ones(1), width=0.05)
    return MixtureProposal(narrow), Boltzmann(GaussianMixture(narrow.means, torch.ones(1), width=0.1), 300.0)


def test_d5_heavy_tails_are_kept_and_flagged():
    proposal, target = heavy()
    plain = sample_snis(proposal, target, 5000, topology=TOPOLOGIES[1], temperature=300.0)
    annealed = anneal(proposal, target, 2000, moves=0, regen=None, threshold=0.0)
    for ensemble in (plain, annealed):
        assert np.isfinite(ensemble.log_w).all()
        assert not {"clipping", "truncation"} & ensemble.provenance.keys()
        assert ensemble.k_hat > 0.7
        verdict = judge(ensemble)
        assert not verdict.reliable
        assert any("tail" in reason for reason in verdict.reasons)


class Coincident:
    """Conformations of a molecule, some of them with two or all atoms in one place."""

    def __init__(self, positions: torch.Tensor) -> None:
        self.positions, self.n_atoms = positions.double(), len(positions)

    def sample(self, n, generator):
        x = self.positions + 0.002 * torch.randn(n, self.n_atoms, 3, generator=generator, dtype=torch.float64)
        x[::5, 1] = x[::5, 0]
        x[1::5] = 0.0
        return x, self.log_prob(x)

    def log_prob(self, x):
        return -0.5 * ((x - self.positions) / 0.002).square().sum((1, 2))

    def log_prob_and_grad(self, x):
        return self.log_prob(x), (self.positions - x) / 0.002**2

    def log_gauge(self, x):
        return torch.zeros(len(x), dtype=torch.float64)


def test_d7_coincident_atoms_stop_nothing():
    system = built_in("ACE-ALA-NME")
    target = Boltzmann(gb.potential(system, engine="torch"), 300.0)
    proposal = Coincident(torch.from_numpy(system.positions))
    common = {"topology": system.topology, "temperature": 300.0}
    settings = SmcSettings(levels=3, conditional_ess=None, regen=None, chunk=50)
    plain = sample_snis(proposal, target, 50, chunk=50, **common)
    annealed = sample_smc(proposal, target, 50, settings=settings, **common)
    paths = sample_langevin(proposal, target, 50, settings=LangevinSettings(steps=3, step=1e-4, chunk=50), **common)
    broken = (np.arange(50) % 5) < 2
    for ensemble in (plain, annealed, paths):
        assert len(ensemble) == 50
        assert np.isfinite(ensemble.log_z.value)
        ancestors = np.arange(50) if ensemble.lineage is None else ensemble.lineage
        assert ensemble.weights[broken[ancestors]].sum() < 1e-6


def test_d19_energies_are_asked_for_in_batches_and_forces_only_where_needed():
    class Counting(Boltzmann):
        batches: list[int]

        def u(self, x):
            self.batches.append(len(x))
            return super().u(x)

        def u_and_grad(self, x):
            raise AssertionError("forces were computed")

    target = Counting(DoubleWell(), 300.0)
    target.batches = []
    sample_snis(LoosePair(), target, 900, topology=TOPOLOGIES[2], temperature=300.0, chunk=300)
    assert target.batches == [300] * 3
    target.batches = []
    anneal(LoosePair(), target, 600, kernel="rwm", levels=3, conditional_ess=None, chunk=300)
    assert min(target.batches) >= 256, "no loop over particles"


def test_d21_every_draw_counts_in_the_effective_sample_size():
    _, target = mixture_target()
    n = 100_000
    ensemble = sample_snis(broad_proposal(), target, n, topology=TOPOLOGIES[1], temperature=300.0, chunk=20_000)
    assert len(ensemble.log_w) == n
    assert ensemble.ess == ess(ensemble.log_w) > 5 * ess(ensemble.log_w[:10_000])


def test_d22_moves_move():
    found = anneal(LoosePair(), PAIR, 1000, conditional_ess=None, levels=30).provenance["levels"]
    later = [level for level in found if level["t"] > 0.1]
    assert all(0.4 < level["acceptance"] < 0.8 for level in later), "the step follows the acceptance"
    published = sample_smc(
        LoosePair(), PAIR, 1000, topology=TOPOLOGIES[2], temperature=300.0, settings=paper_settings(0.16)
    ).provenance["levels"]
    ours = np.median([level["displacement_nm"] for level in later])
    assert ours > 30 * np.median([level["displacement_nm"] for level in published])


def test_d24_memory_does_not_grow_with_the_levels():
    held = {}

    def weigh(done, total, /, **figures):
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
        held[figures["level"]] = sum(tensor.numel() for tensor in tensors)
        assert not any(tensor.grad_fn is not None for tensor in tensors if tensor.ndim == 3)

    anneal(LoosePair(), PAIR, 500, conditional_ess=None, levels=25, report=weigh)
    assert held[25] <= held[3] + 2000


@pytest.mark.slow
def test_every_correction_finds_log_z_in_twenty_seeds():
    """Two modes in other shares and wider than those of the proposal: log Z = 2, and 0.2 of it on the right."""
    _, target = mixture_target()
    common = {"topology": TOPOLOGIES[1], "temperature": 300.0}
    fixed = {"conditional_ess": None, "levels": 20, "regen": None}
    methods = {
        "snis": lambda seed: sample_snis(broad_proposal(), target, 1000, seed=seed, **common),
        "ula": lambda seed: anneal(broad_proposal(), target, 1000, seed, kernel="ula", step=0.004, **fixed),
        "mala": lambda seed: anneal(broad_proposal(), target, 1000, seed, **fixed),
        "paths": lambda seed: sample_langevin(
            broad_proposal(), target, 1000, seed=seed, settings=LangevinSettings(steps=20, step=0.01), **common
        ),
    }
    for name, method in methods.items():
        deviations = []
        for seed in range(20):
            ensemble = method(seed)
            value, error = ensemble.log_z
            share, spread = ensemble.expectation(lambda x: x[:, 0, 0] > 0)
            deviations.append([(value - 2.0) / error, (share - 0.2) / spread])
        assert np.abs(deviations).max() < 4.0, f"{name}: {np.abs(deviations).max():.1f} standard errors"
        mean = np.mean(deviations, axis=0) * math.sqrt(20)
        assert np.abs(mean).max() < 4.0, f"{name}: the mean of twenty seeds is off by {mean} standard errors"
