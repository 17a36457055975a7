import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, StoppedError
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.langevin_paths import LangevinSettings, sample_langevin
from gibbsian.sampling.path_weights import energy_and_laplacian, ode_weights, path_weights, run_paths
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.reports import stop_at
from gibbsian.testing.sampling import (
    Broken,
    Stray,
    broad_proposal,
    check_log_z,
    check_sampler,
    mixture_target,
)
from gibbsian.testing.toy_proposals import Bent, LoosePair
from gibbsian.testing.toys import DoubleWell, toy_system

TOPOLOGIES = {n: toy_system(np.zeros((n, 3))).topology for n in (1, 2)}
PAIR = Boltzmann(DoubleWell(), 300.0)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def draw(proposal, target, n, seed=0, **options) -> Ensemble:
    others = {name: options.pop(name) for name in {"folder", "report"} & options.keys()}
    topology, settings = TOPOLOGIES[target.n_atoms], LangevinSettings(**options)
    return sample_langevin(
        proposal, target, n, topology=topology, temperature=300.0, settings=settings, seed=seed, **others
    )


def same(a: Ensemble, b: Ensemble) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("positions", "log_w", "u", "log_q"))


@dataclass
class Line:
    """A standard normal variable, and the target exp(-(x - 0.7)^2 / 0.72) with Z = 0.6 sqrt(2 pi)."""

    n_atoms: int = 1

    def sample(self, n, generator):
        x = torch.randn(n, 1, 1, dtype=torch.float64, generator=generator)
        return x, self.log_prob(x)

    def log_gauge(self, x):
        return torch.zeros(len(x), dtype=torch.float64)

    def u(self, x):
        return self.u_and_grad(x)[0]

    def log_prob(self, x):
        return (-0.5 * x.square() - HALF_LOG_2PI).sum((1, 2))

    def log_prob_and_grad(self, x):
        return self.log_prob(x), -x

    def u_and_grad(self, x):
        return ((x - 0.7).square() / 0.72).sum((1, 2)), (x - 0.7) / 0.36


@pytest.fixture(scope="module")
def line():
    generator = torch.Generator().manual_seed(0)
    x, log_q = Line().sample(400_000, generator)
    return run_paths(Line(), x, 1 / 20, 20, generator), log_q


def test_discrete_weights_are_exact_where_the_differential_equation_is_not(line):
    paths, log_q = line
    exact, _ = path_weights(paths, Line(), log_q)
    euler, _ = ode_weights(paths, Line())
    found = [float(torch.logsumexp(a, 0)) - math.log(len(a)) - HALF_LOG_2PI for a in (exact, euler)]
    assert found[0] == pytest.approx(math.log(0.6), abs=4 * 0.0013)
    assert found[1] == pytest.approx(-0.543, abs=4 * 0.0014)
    weights, end = torch.softmax(exact, 0), paths.x[-1, :, 0, 0]
    mean = float(weights @ end)
    assert mean == pytest.approx(0.7, abs=0.006)
    assert math.sqrt(float(weights @ (end - mean).square())) == pytest.approx(0.6, abs=0.006)


def test_only_end_points_are_tested_against_the_threshold(line):
    paths, log_q = line
    kept = paths.u1[-1] <= 1.5
    passed_above = (paths.u1[:, kept] > 1.5).any(0)
    assert passed_above.any()
    some, _ = path_weights(paths.take(kept), Line(), log_q[kept])
    found = float(torch.logsumexp(some, 0)) - math.log(len(log_q))
    assert found == pytest.approx(0.3212, abs=4 * 0.0015)
    everything, _ = path_weights(paths, Line(), log_q)
    assert torch.equal(everything[kept], some)


def test_with_fine_steps_both_weights_agree():
    generator = torch.Generator().manual_seed(1)
    x, log_q = Line().sample(500, generator)
    paths = run_paths(Line(), x, 1 / 4000, 4000, generator)
    exact, _ = path_weights(paths, Line(), log_q)
    euler, _ = ode_weights(paths, Line())
    assert float((exact - euler).abs().median()) < 0.03


def test_laplacian_against_finite_differences():
    x, _ = Bent().sample(5, torch.Generator().manual_seed(0))
    u0, grad, found = energy_and_laplacian(Bent(), x)
    step, expected = 1e-4, torch.zeros(5, dtype=torch.float64)
    for i in range(3):
        shift = torch.zeros(1, 1, 3, dtype=torch.float64)
        shift[..., i] = step
        sides = -Bent().log_prob(x + shift) - Bent().log_prob(x - shift)
        expected += (sides - 2 * u0) / step**2
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(grad, -Bent().log_prob_and_grad(x)[1])


def test_conformance_with_short_steps():
    check_sampler(lambda proposal, target, n, seed: draw(proposal, target, n, seed, step=1e-6, steps=3))


@pytest.mark.parametrize("options", [{}, {"step": 0.01, "steps": 40}], ids=str)
def test_log_z(options):
    check_log_z(lambda *given: draw(*given, **options), n=2000)


def test_moves_help_where_draws_are_rough():
    moved, still = (draw(LoosePair(), PAIR, 2000, step=step) for step in (None, 1e-7))
    assert moved.ess > 1.3 * still.ess
    assert moved.provenance["step"] > 1e-3


def test_draws_are_kept_with_their_importance_weights():
    ensemble = draw(LoosePair(), PAIR, 700, step=0.003, chunk=300)
    plain = sample_snis(LoosePair(), PAIR, 700, topology=TOPOLOGIES[2], temperature=300.0, chunk=300)
    assert ensemble.draws is not None
    assert np.array_equal(ensemble.draws.positions, plain.positions)
    assert np.allclose(ensemble.draws.log_w, plain.log_w, rtol=0, atol=1e-9)
    assert ensemble.provenance["proposal_ess"] == pytest.approx(plain.ess)


def test_a_threshold_gives_the_truncated_target():
    some = draw(LoosePair(), PAIR, 4000, max_energy=4.0)
    whole = draw(LoosePair(), PAIR, 20_000, chunk=5000)
    assert whole.u is not None
    share = whole.expectation(whole.u <= 4.0)
    exact = DoubleWell().log_z(300.0) + math.log(share.value)
    assert abs(some.log_z.value - exact) < 4 * math.hypot(some.log_z.error, share.error / share.value)
    assert len(some) == 4000
    assert some.provenance["above"] == pytest.approx(np.mean(np.isneginf(some.log_w)), abs=1e-3)
    found = draw(LoosePair(), PAIR, 2000, energy_delta=1e-3).provenance["max_energy"]
    assert 4.0 < found < 40.0


def test_unweighted_samples_say_so():
    class Silent(LoosePair):
        def log_prob_and_grad(self, x):
            raise AssertionError("the proposal was asked on the way")

    ensemble = draw(Silent(), PAIR, 500, weights="none", step=0.005, max_energy=50.0)
    assert not ensemble.provenance["weighted"]
    assert not ensemble.provenance["exact"]
    assert set(np.unique(ensemble.log_w)) <= {0.0, -np.inf}
    with pytest.raises(InputError, match="log_z"):
        _ = ensemble.log_z
    assert draw(LoosePair(), PAIR, 300).provenance["exact"]
    assert not draw(LoosePair(), PAIR, 300, weights="ode", step=1e-3, steps=5).provenance["exact"]


def test_interrupted_run_equals_undisturbed_and_tops_up(tmp_path):
    options = {"chunk": 100, "steps": 10, "energy_delta": 0.01}
    whole = draw(LoosePair(), PAIR, 250, **options)

    with pytest.raises(StoppedError):
        draw(LoosePair(), PAIR, 250, folder=tmp_path, report=stop_at(200), **options)
    resumed = draw(LoosePair(), PAIR, 250, folder=tmp_path, **options)
    assert same(whole, resumed)
    assert whole.provenance == resumed.provenance
    calls = PAIR.calls
    assert same(whole, draw(LoosePair(), PAIR, 400, folder=tmp_path, **options).take(slice(0, 250)))
    assert PAIR.calls - calls == 100 * 11


def test_walls_and_broken_coordinates_are_survived():
    _, target = mixture_target()
    ensemble = draw(Stray(broad_proposal().mixture), Broken(target, 0.0), 2000, step=0.01, chunk=2000)
    value, error = ensemble.log_z
    assert abs(value - 2.0 - math.log(0.8)) < 4 * error
    assert np.isfinite(ensemble.positions).all()
    assert draw(broad_proposal(), Broken(target, -100.0), 50).ess == 0
    assert draw(LoosePair(), PAIR, 100, step=1e7).ess == 0


@pytest.mark.parametrize(
    "wrong",
    [{"weights": "hutchinson"}, {"weights": "best"}, {"steps": 0}, {"step": -1.0}, {"energy_delta": 2.0}],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        draw(LoosePair(), PAIR, 10, **wrong)
    with pytest.raises(InputError, match="n = 0"):
        draw(LoosePair(), PAIR, 0)
