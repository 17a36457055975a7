"""Annealing of a small flow to a mixture whose modes and log Z are known, by every method."""

import json
import math
from dataclasses import replace

import pytest
import torch
from one_atom import QUICK, SHARES, TRAINING, OneAtom, target, weighted

from gibbsian.errors import InputError
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toys import GaussianMixture
from gibbsian.testing.training import check_resumable
from gibbsian.training.annealing.annealer import LOG, anneal


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


@pytest.mark.parametrize(
    "settings",
    [
        QUICK,
        replace(QUICK, method="ladder", hottest=6000.0, rungs=6),
        replace(QUICK, method="effective-size", fraction=0.4),
        replace(QUICK, method="geometric", mixtures=8),
        replace(QUICK, method="fab", samples=2_000, calls=300_000, levels=2, fit_steps=40, ess_floor=0.002),
    ],
    ids=lambda settings: settings.method,
)
def test_every_method_finds_all_modes_and_log_z(settings, tmp_path):
    flow = anneal(OneAtom(), target(), 300.0, settings, TRAINING, tmp_path)
    _, log_w, nearest = weighted(flow)
    weights = torch.softmax(log_w, 0)
    ess = float(1 / weights.square().sum()) / len(weights)
    log_z = float(torch.logsumexp(log_w, 0)) - math.log(len(log_w))
    assert ess > 0.5
    assert log_z == pytest.approx(0.0, abs=0.03)
    drawn = torch.bincount(nearest, minlength=4) / len(nearest)
    for mode in range(4):
        assert float(weights[nearest == mode].sum()) == pytest.approx(float(SHARES[mode]), rel=0.2)
        assert float(drawn[mode]) == pytest.approx(float(SHARES[mode]), rel=0.5)
    rows = lines(tmp_path)
    assert rows[-1]["calls"] >= settings.calls
    assert rows[-1]["target_ess"] > rows[0]["target_ess"]


def test_draws_are_remembered_once_a_step_leads_to_the_target(tmp_path):
    anneal(OneAtom(), target(), 300.0, replace(QUICK, memory=3), TRAINING, tmp_path)
    rows = lines(tmp_path)
    reached = [row["b"] == 1.0 for row in rows]
    assert any(reached)
    assert not all(reached)
    assert all((row["generations"] > 1) <= done for row, done in zip(rows, reached, strict=True))
    assert max(row["generations"] for row in rows) == 3


def test_log_z_along_a_ladder_is_that_of_the_tempered_mixture(tmp_path):
    """A single Gaussian: the integral of p^b is known, log Z(b) = 3/2 log(2 pi s^2 / b) - 3 b/2 log(2 pi s^2)."""
    one = Boltzmann(GaussianMixture(means=torch.zeros(1, 3), weights=torch.ones(1), width=0.05), 300.0)
    settings = replace(QUICK, method="ladder", hottest=4800.0, rungs=5, calls=24_000)
    anneal(OneAtom(), one, 300.0, settings, TRAINING, tmp_path)
    constant = math.log(2 * math.pi * 0.05**2)
    for row in lines(tmp_path)[1:]:
        exact = 1.5 * (constant - math.log(row["b"])) - 1.5 * row["b"] * constant
        assert row["log_z"] == pytest.approx(exact, abs=0.1)


def test_a_stopped_annealing_continues_with_the_same_bits(tmp_path):
    settings = replace(QUICK, calls=12_000, samples=1_000, fit_steps=5)

    def train(folder, report):
        return anneal(OneAtom(), target(), 300.0, settings, TRAINING, folder, report).state_dict()

    check_resumable(train, tmp_path, (1, 4))
    whole, parts = ([row["loss"] for row in lines(tmp_path / name)] for name in ("whole", "parts"))
    assert whole == parts


def test_steps_that_leave_too_few_samples_are_shortened_or_refused(tmp_path):
    """With all energies from a target far outside, no step can be taken, and none is."""
    far = Boltzmann(GaussianMixture(means=torch.full((1, 3), 6.0), weights=torch.ones(1), width=0.001), 300.0)
    settings = replace(QUICK, method="ladder", hottest=301.0, rungs=2)
    flow = OneAtom()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    with pytest.raises(InputError, match="refused"):
        anneal(flow, far, 300.0, settings, TRAINING, tmp_path)
    assert all(row["refused"] == "yes" for row in lines(tmp_path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in flow.state_dict().items())


def test_another_annealing_in_the_folder_is_refused(tmp_path):
    settings = replace(QUICK, calls=2_000, samples=1_000, fit_steps=2)
    anneal(OneAtom(), target(), 300.0, settings, TRAINING, tmp_path)
    with pytest.raises(InputError, match="other"):
        anneal(OneAtom(), target(), 300.0, replace(settings, lr=1e-4), TRAINING, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"method": "magic"}, {"samples": 0}, {"calls": 10}, {"trust": 0.0}, {"ess_floor": 0.6}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="annealing"):
        replace(QUICK, **wrong)
