import math

import numpy as np
import pytest
import torch
from scipy.stats import gamma as gamma_law

from gibbsian.errors import InputError
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.truncation import Truncated, Truncation, clip_weights, energy_threshold, find_cut, truncated
from gibbsian.testing.sampling import broad_proposal, mixture_target
from gibbsian.testing.toys import toy_system


def harmonic(d: int, n: int = 200_000) -> np.ndarray:
    return gamma_law(d / 2).rvs(size=n, random_state=0)


@pytest.mark.parametrize(("d", "bound", "quantile"), [(60, 25.2, 19.8), (120, 33.6, 26.8), (183, 40.3, 32.4)])
def test_automatic_energy_threshold_of_harmonic_energies(d, bound, quantile):
    grid = np.linspace(0, 30 * d, 300_001)[1:]  # quadrature: the exact moments, tail included
    exact = energy_threshold(grid, gamma_law.logpdf(grid, d / 2), 1e-3) - d / 2
    assert exact == pytest.approx(bound, abs=0.1)
    # Few samples carry the tilted mean, so the estimate is less safe than the bound itself, but safe.
    assert quantile < energy_threshold(harmonic(d), np.zeros(200_000), 1e-3) - d / 2 < bound


def test_threshold_follows_a_constant_and_ignores_broken_energies():
    u = harmonic(60)
    shifted = energy_threshold(u + 1e4, np.zeros(len(u)), 1e-3)
    assert shifted - 1e4 == pytest.approx(energy_threshold(u, np.zeros(len(u)), 1e-3))
    u[:10] = np.inf
    log_w = np.where(np.arange(len(u)) < 10, -np.inf, 0.0)
    assert np.isfinite(energy_threshold(u, log_w, 1e-3))
    assert energy_threshold(u[:20], np.zeros(20), 1e-3) == np.inf


def test_truncated_samples_stay_counted(caplog):
    caplog.set_level("INFO")
    _, target = mixture_target()
    ensemble = sample_snis(
        broad_proposal(), target, 4000, topology=toy_system(np.zeros((1, 3))).topology, temperature=300.0
    )
    cut = truncated(ensemble, Truncation(energy_delta=1e-3))
    notes = cut.provenance["truncation"]
    assert "bias at most" in caplog.text
    assert len(cut) == 4000
    assert ensemble.u is not None
    assert np.array_equal(np.isfinite(cut.log_w), ensemble.u <= notes["max_u"])
    assert notes["bias_bound"] == pytest.approx(1e-3 + 12 / ensemble.ess)
    assert notes["mass_outside_p"] < 1e-3 < notes["mass_outside_q"]
    assert cut.log_z.value == pytest.approx(2.0, abs=5 * cut.log_z.error)
    assert truncated(ensemble, Truncation()) is ensemble


def test_density_truncation_by_both_laws():
    _, target = mixture_target()
    topology = toy_system(np.zeros((1, 3))).topology
    ensemble = sample_snis(broad_proposal(), target, 4000, topology=topology, temperature=300.0)
    assert ensemble.u is not None
    assert ensemble.log_q is not None
    by_q = find_cut(Truncation(density_delta=0.05, density_law="q"), ensemble.u, ensemble.log_q, ensemble.log_w)
    by_p = find_cut(Truncation(density_delta=0.05), ensemble.u, ensemble.log_q, ensemble.log_w)
    assert by_q is not None
    assert by_p is not None
    assert 0 < by_q.notes["mass_outside_q"] < 0.05
    assert by_p.notes["mass_outside_p"] < 0.05
    assert by_p.min_log_q > by_q.min_log_q


def test_clipping():
    log_w = np.array([0.0, 3.0, 1.0, 2.0, -np.inf])
    dropped, count = clip_weights(log_w, 0.4, "drop")
    assert count == 2
    assert dropped.tolist() == [0.0, -np.inf, 1.0, -np.inf, -np.inf]
    capped, _ = clip_weights(log_w, 0.4, "cap")
    assert capped.tolist() == [0.0, 2.0, 1.0, 2.0, -np.inf]
    assert np.array_equal(clip_weights(log_w, 0.0, "cap")[0], log_w)


def test_clipped_ensemble_says_what_was_hidden():
    _, target = mixture_target()
    topology = toy_system(np.zeros((1, 3))).topology
    ensemble = sample_snis(broad_proposal(), target, 1000, topology=topology, temperature=300.0)
    found = truncated(ensemble, Truncation(clip=0.002, clip_how="cap"))
    assert found.provenance["clipping"] == {
        "fraction": 0.002,
        "how": "cap",
        "count": 2,
        "ess_unclipped": pytest.approx(ensemble.ess),
    }


def test_truncated_target_is_infinite_above():
    _, target = mixture_target()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None, None].expand(9, 1, 3)
    wall = Truncated(target, 10.0)
    u, _ = wall.u_and_grad(x)
    assert torch.equal(u, wall.u(x))
    assert torch.equal(torch.isfinite(u), target.u(x) <= 10.0)
    assert math.isinf(float(u[0]))


def test_bad_settings():
    with pytest.raises(InputError, match="energy_delta"):
        Truncation(energy_delta=2.0)
    with pytest.raises(InputError, match="clip"):
        Truncation(clip=1.0)
