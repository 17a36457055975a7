import math

import numpy as np
import pytest
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import GibbsianError, InputError, StoppedError
from gibbsian.sampling.swap import SwapSettings, sample_exchange
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.reports import stop_at
from gibbsian.testing.sampling import Broken, MixtureProposal, SamplingOnly, broad_proposal, mixture_target
from gibbsian.testing.toy_proposals import DriftingPair, LoosePair
from gibbsian.testing.toys import DoubleWell, GaussianMixture, toy_system

TOPOLOGIES = {n: toy_system(np.zeros((n, 3))).topology for n in (1, 2)}
WELL = DoubleWell()
PAIR = Boltzmann(WELL, 300.0)
QUICK = {"every": 1, "n_leapfrog": 3, "t_max": 500.0, "n_temperatures": 2, "equilibration": 30, "chunk": 500}


def draw(proposal, target, n, seed=0, folder=None, report=None, **options) -> Ensemble:
    return sample_exchange(
        proposal,
        target,
        n,
        topology=TOPOLOGIES[target.n_atoms],
        temperature=300.0,
        settings=SwapSettings(**options),
        folder=folder,
        seed=seed,
        **({} if report is None else {"report": report}),
    )


def far(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, 0] - x[:, 1], axis=1) > WELL.centre


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": "mala", "draws": 3},
        {"kernel": "rwm", "n_temperatures": 3},
        {"moves": 0, "n_temperatures": 1, "draws": 20},
        {"n_temperatures": 1},
    ],
    ids=str,
)
def test_populations_of_a_double_well(options):
    ensemble = draw(LoosePair(), PAIR, 16 * 150, **{**QUICK, **options})
    value, error = ensemble.expectation(far)
    assert 0 < error < 0.05
    assert abs(value - WELL.population(300.0)) < 4 * error
    assert (ensemble.log_w == 0).all()
    assert ensemble.provenance["exact"]
    assert ensemble.provenance["statistical_inefficiency"] >= 1


def test_centroid_stays_confined_by_the_gauge():
    ensemble = draw(DriftingPair(), PAIR, 16 * 100, **QUICK)
    value, error = ensemble.expectation(far)
    assert abs(value - WELL.population(300.0)) < 4 * error
    centroid = math.sqrt(2) * ensemble.positions.mean(1)
    assert np.sqrt((centroid**2).mean()) == pytest.approx(0.1, rel=0.1)
    assert ensemble.provenance["draws_acceptance"] > 0.02


def test_a_tiny_effective_sample_size_does_no_harm():
    # A proposal so wide that one draw in some thousands is of use, and a population that it has all wrong.
    hopeless = LoosePair(width=1.5)
    ensemble = draw(hopeless, PAIR, 16 * 300, **{**QUICK, "n_temperatures": 3, "t_max": 900.0, "equilibration": 100})
    assert ensemble.provenance["draws_acceptance"] < 0.02
    value, error = ensemble.expectation(far)
    assert abs(value - WELL.population(300.0)) < 4 * error


def test_good_proposals_give_independent_samples():
    share = 0.2
    ideal = MixtureProposal(GaussianMixture(weights=torch.tensor([1 - share, share])))
    ensemble = draw(ideal, mixture_target(share)[1], 1600, n_temperatures=1, moves=0, equilibration=0, every=1)
    assert ensemble.provenance["draws_acceptance"] > 0.999
    assert ensemble.provenance["statistical_inefficiency"] < 1.3
    value, error = ensemble.expectation(lambda x: x[:, 0, 0] > 0)
    assert abs(value - share) < 4 * error


def test_interrupted_run_equals_undisturbed_and_goes_on(tmp_path):
    whole = draw(LoosePair(), PAIR, 600, **{**QUICK, "chunk": 160})

    with pytest.raises(StoppedError):
        draw(LoosePair(), PAIR, 600, folder=tmp_path, report=stop_at(300), **{**QUICK, "chunk": 160})
    resumed = draw(LoosePair(), PAIR, 600, folder=tmp_path, **{**QUICK, "chunk": 160})
    for name in ("positions", "u", "lineage"):
        assert np.array_equal(getattr(whole, name), getattr(resumed, name))
    assert whole.provenance == resumed.provenance
    longer = draw(LoosePair(), PAIR, 1200, folder=tmp_path, **{**QUICK, "chunk": 160})
    assert len(longer) == 1200
    assert np.array_equal(longer.positions[longer.lineage == 0][:30], whole.positions[whole.lineage == 0][:30])


def test_number_of_samples_need_not_fit_the_ladders():
    ensemble = draw(LoosePair(), PAIR, 37, **QUICK)
    assert len(ensemble) == 37
    assert ensemble.lineage is not None
    assert np.bincount(ensemble.lineage).tolist() == [3] * 5 + [2] * 11
    assert np.isfinite(ensemble.expectation(far).error)


def test_refusals():
    with pytest.raises(InputError, match="SamplingOnly"):
        draw(SamplingOnly(broad_proposal()), mixture_target()[1], 10)
    with pytest.raises(InputError, match="n = 0"):
        draw(LoosePair(), PAIR, 0)
    with pytest.raises(InputError, match="which are exact"):
        SwapSettings(kernel="ula")
    with pytest.raises(InputError, match="draws"):
        SwapSettings(draws=0)
    with pytest.raises(GibbsianError, match="finite weight"):
        draw(broad_proposal(), Broken(mixture_target()[1], -math.inf), 10)
