import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, StoppedError
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings, paper_settings
from gibbsian.sampling.truncation import Truncation
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.sampling import (
    Broken,
    MixtureProposal,
    Stray,
    broad_proposal,
    check_log_z,
    check_sampler,
    mixture_target,
)
from gibbsian.testing.toy_proposals import DriftingPair, LoosePair
from gibbsian.testing.toys import DoubleWell, GaussianMixture, toy_system

TOPOLOGIES = {n: toy_system(np.zeros((n, 3))).topology for n in (1, 2)}
WELL = DoubleWell()
PAIR = Boltzmann(WELL, 300.0)


def draw(proposal, target, n, seed=0, **options) -> Ensemble:
    names = {"folder", "report"} & options.keys()
    others = {name: options.pop(name) for name in names}
    topology = TOPOLOGIES[target.n_atoms]
    settings = SmcSettings(**options)
    return sample_smc(proposal, target, n, topology=topology, temperature=300.0, settings=settings, seed=seed, **others)


def same(a: Ensemble, b: Ensemble) -> bool:
    arrays = ("positions", "log_w", "u", "log_q", "lineage")
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in arrays) and a.provenance == b.provenance


def test_conformance():
    check_sampler(lambda proposal, target, n, seed: draw(proposal, target, n, seed))


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial"])
@pytest.mark.parametrize("kernel", ["mala", "hmc", "rwm"])
def test_log_z_with_every_kernel_and_resampler(kernel, scheme):
    check_log_z(lambda *given: draw(*given, kernel=kernel, scheme=scheme, regen=None), n=1500)


@pytest.mark.parametrize(
    "options",
    [
        {"interpolant": "tempered"},
        {"regen": "subset", "moves": 0},
        {"conditional_ess": None, "levels": 15},
        {"threshold": 1.0},
        {"kernel": "ula", "step": 0.004, "conditional_ess": None, "levels": 30},
    ],
    ids=str,
)
def test_log_z_with_other_options(options):
    check_log_z(lambda *given: draw(*given, **options), n=1500)


def test_without_moves_the_weights_are_those_of_importance_sampling():
    for adaptive in (0.9, None):
        settings = {"moves": 0, "regen": None, "threshold": 0.0, "conditional_ess": adaptive, "levels": 7}
        annealed = draw(LoosePair(), PAIR, 500, chunk=200, **settings)
        plain = sample_snis(LoosePair(), PAIR, 500, topology=TOPOLOGIES[2], temperature=300.0, chunk=200)
        assert np.allclose(annealed.log_w, plain.log_w, atol=1e-10)
        assert annealed.provenance["levels"][-1]["t"] == 1.0
        assert annealed.log_z == pytest.approx(plain.log_z, rel=2e-3)
        assert annealed.provenance["proposal_ess"] == pytest.approx(plain.ess)


def test_draws_are_kept_as_they_were_before_truncation_and_moves():
    truncation = Truncation(max_energy=1.0)
    annealed = draw(LoosePair(), PAIR, 300, chunk=200, truncation=truncation)
    plain = sample_snis(LoosePair(), PAIR, 300, topology=TOPOLOGIES[2], temperature=300.0, chunk=200)
    assert annealed.draws is not None
    for name in ("positions", "u", "log_q", "log_w"):
        assert np.allclose(getattr(annealed.draws, name), getattr(plain, name), atol=1e-6), name
    assert not np.allclose(annealed.positions, plain.positions)


def test_error_of_log_z_is_that_of_repeated_runs():
    found = [draw(LoosePair(), PAIR, 300, seed=seed, levels=12, conditional_ess=None).log_z for seed in range(60)]
    values, errors = np.array(found).T
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.4)
    assert abs(np.mean(values) - WELL.log_z(300.0)) < 4 * np.std(values) / math.sqrt(60) + 0.005


def test_weights_survive_and_ancestors_are_told():
    ensemble = draw(LoosePair(), PAIR, 1000)
    levels = ensemble.provenance["levels"]
    assert sum(level["resampled"] for level in levels) >= 1
    assert not levels[-1]["resampled"]
    assert ensemble.ess < 999
    assert ensemble.provenance["effective"] < ensemble.ess
    assert ensemble.lineage is not None
    assert ensemble.provenance["unique_ancestors"] == len(np.unique(ensemble.lineage)) < 1000
    assert all(0 < level["acceptance"] <= 1 for level in levels)
    assert all(0 < level["regen_acceptance"] <= 1 for level in levels)
    assert ensemble.provenance["exact"]
    assert not draw(LoosePair(), PAIR, 100, kernel="ula").provenance["exact"]


def test_one_dominant_particle_is_not_hidden_by_resampling():
    narrow = MixtureProposal(GaussianMixture(weights=torch.tensor([1.0, 0.0])))
    target = Boltzmann(GaussianMixture(weights=torch.tensor([0.0, 1.0]), width=0.3), 300.0)
    ensemble = draw(narrow, target, 400, moves=0, threshold=0.9, conditional_ess=0.5, levels=20)
    assert ensemble.provenance["effective"] < 0.05 * ensemble.ess


def test_interrupted_run_equals_undisturbed(tmp_path):
    options = {"chunk": 100, "levels": 8, "conditional_ess": None, "checkpoint_every": 3}
    whole = draw(LoosePair(), PAIR, 250, **options)

    def stop(done, total, /, **figures):
        if figures["level"] == 5:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        draw(LoosePair(), PAIR, 250, folder=tmp_path, report=stop, **options)
    assert same(whole, draw(LoosePair(), PAIR, 250, folder=tmp_path, **options))
    calls = WELL.calls
    assert same(whole, draw(LoosePair(), PAIR, 250, folder=tmp_path, **options))
    assert WELL.calls == calls
    other = draw(LoosePair(), PAIR, 250, folder=tmp_path, **{**options, "chunk": 50})
    assert not np.array_equal(other.log_w, whole.log_w)


def test_walls_and_broken_coordinates_are_survived():
    _, target = mixture_target()
    ensemble = draw(Stray(broad_proposal().mixture), Broken(target, 0.0), 2000, chunk=2000)
    value, error = ensemble.log_z
    assert abs(value - 2.0 - math.log(0.8)) < 4 * error
    assert np.isfinite(ensemble.positions).all()
    hopeless = draw(broad_proposal(), Broken(target, -100.0), 50)
    assert hopeless.ess == 0
    assert hopeless.provenance["effective"] == 0


def test_gradients_flow_only_through_coordinates():
    class Learnt(torch.nn.Module, LoosePair):
        def __init__(self):
            torch.nn.Module.__init__(self)
            LoosePair.__init__(self)
            self.scale = torch.nn.Parameter(torch.ones(()))
            self.leaked = False

        def _encode(self, x):
            z, log_det = LoosePair._encode(self, x)
            self.leaked |= self.scale.requires_grad
            return z * self.scale, log_det

    proposal = Learnt()
    learnt = draw(proposal, PAIR, 200)
    assert not proposal.leaked
    assert proposal.scale.requires_grad
    assert proposal.scale.grad is None
    assert same(learnt, draw(LoosePair(), PAIR, 200))


def test_energy_truncation_gives_the_truncated_target():
    truncation = Truncation(max_energy=4.0)
    ensemble = draw(LoosePair(), PAIR, 4000, truncation=truncation)
    plain = draw(LoosePair(), PAIR, 20_000, chunk=5000)
    assert plain.u is not None
    assert ensemble.u is not None
    assert ensemble.u[ensemble.weights > 0].max() <= 4.0
    kept = plain.expectation(plain.u <= 4.0)
    value, error = ensemble.log_z
    exact = WELL.log_z(300.0) + math.log(kept.value)
    assert abs(value - exact) < 4 * math.hypot(error, kept.error / kept.value)
    notes = ensemble.provenance["truncation"]
    assert notes["mass_outside_p"] == pytest.approx(1 - kept.value, abs=0.05)
    assert notes["bias_bound"] >= notes["mass_outside_p"]


def test_clipping_lands_in_the_record():
    at_end = draw(LoosePair(), PAIR, 1000, truncation=Truncation(clip=0.01))
    assert at_end.provenance["clipping"]["count"] == 10
    assert np.isneginf(at_end.log_w).sum() >= 10
    at_start = draw(LoosePair(), PAIR, 1000, truncation=Truncation(clip=0.01), clip_at="start")
    assert at_start.provenance["clipping"]["at"] == "start"
    assert "clipping" not in draw(LoosePair(), PAIR, 100).provenance


def test_published_settings_hardly_move_and_say_what_they_bias():
    settings = paper_settings(0.16)
    result = sample_smc(LoosePair(), PAIR, 500, topology=TOPOLOGIES[2], temperature=300.0, settings=settings)
    assert not result.provenance["exact"]
    assert result.provenance["clipping"]["count"] == 1
    assert result.provenance["clipping"]["ess_unclipped"] > 0
    assert len(result.provenance["levels"]) == 100
    assert max(level["displacement_nm"] for level in result.provenance["levels"]) < 2e-4


def test_centroid_stays_confined_by_the_gauge():
    ensemble = draw(DriftingPair(), PAIR, 2000, moves=3)
    centroid = math.sqrt(2) * ensemble.positions.mean(1)
    spread = np.sqrt(ensemble.weights @ (centroid**2).mean(1))
    assert spread == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": "magic"},
        {"step": 0.0},
        {"conditional_ess": 1.5},
        {"threshold": 2.0},
        {"levels": 0},
        {"clip_at": "middle"},
        {"interpolant": "cubic"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        draw(LoosePair(), PAIR, 10, **wrong)
    with pytest.raises(InputError, match="n = 0"):
        draw(LoosePair(), PAIR, 0)


def test_settings_are_plain_data():
    settings = SmcSettings(kernel="rwm")
    assert replace(settings, kernel="mala") == SmcSettings()
