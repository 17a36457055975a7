import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import BUTANE, SETTINGS, Broken, Butane, new_flow, weights_of

from gibbsian.errors import InputError
from gibbsian.targets.extended import Extended
from gibbsian.testing.training import check_resumable
from gibbsian.training.checkpoint import Run
from gibbsian.training.data import Frames, Source, split
from gibbsian.training.early_stopping import EnergyRule, energy_figures, energy_rule, evaluate
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings

BY_ENERGY = replace(SETTINGS, stop_on="energy", stop_samples=200)


class Exact:
    """A generator of the data, stretched, with the unnormalised density of the target."""

    topology = BUTANE

    def __init__(self, butane: Butane, stretch: float = 1.0) -> None:
        self.butane, self.stretch = butane, stretch
        self.x = torch.from_numpy(butane.data(4000).positions)

    def rsample(self, n, generator):
        x = self.x[torch.randint(len(self.x), (n,), generator=generator)] * self.stretch
        return x, -self.butane.u(x)

    def log_gauge(self, x):
        return torch.zeros(len(x), dtype=torch.float64)


def test_energies_of_a_perfect_model_are_those_of_the_data():
    butane = Butane()
    target = Extended(butane, Exact(butane).log_gauge)
    settings = TrainSettings(stop_on="energy", stop_samples=1000)
    rule = energy_rule(split(butane.data(), 0.5, 0)[1], target, settings)
    assert len(rule.held_out) == 1000
    perfect = energy_figures(Exact(butane), rule, settings)
    assert perfect["energy_w1"] < 0.2
    assert perfect["kept"] > 0.98
    assert perfect["ess"] == pytest.approx(1.0)
    stretched = energy_figures(Exact(butane, 1.05), rule, settings)
    assert stretched["energy_w1"] > 3 * perfect["energy_w1"]
    assert stretched["kept"] < perfect["kept"]
    hopeless = energy_figures(Exact(butane, 1.5), rule, settings)
    assert hopeless["energy_w1"] == math.inf
    assert hopeless["kept"] == 0.0


def test_weights_without_comparable_samples_give_way_to_any_later_ones():
    butane = Butane()
    data = butane.data(200)
    run = Run.begin(new_flow(data), 0)
    frames = Frames(torch.from_numpy(data.positions), torch.from_numpy(data.log_w))
    rule = EnergyRule(Extended(butane, run.ema.log_gauge), np.array([-1e6, -1e6 + 1]))
    with torch.no_grad():
        for parameter in run.ema.parameters():
            parameter.add_(0.01)
    for _ in range(3):
        evaluate(run, [Source(frames, 8)], replace(BY_ENERGY, patience=1), rule)
    assert not run.stopped
    assert all(torch.equal(run.best[name], tensor) for name, tensor in run.ema.state_dict().items())


def test_stopping_by_energies_keeps_the_weights_nearest_in_energy(tmp_path):
    butane = Butane()
    data = butane.data()
    settings = replace(BY_ENERGY, evaluate_every=10)
    train(new_flow(data), data, [Stage("nll", 60, batch=64, lr=1e-2)], settings, tmp_path, target=butane)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"held_out", "energy_w1", "kept", "ess"} <= log[0].keys()
    assert log[-1]["best"] <= min(line["energy_w1"] for line in log)
    assert log[-1]["energy_w1"] < log[0]["energy_w1"]


def test_stopping_by_energies_resumes_with_the_same_bits(tmp_path):
    butane = Butane()
    data = butane.data()
    stages = [Stage("nll", 15, batch=32, warmup=2)]

    def fit(folder, report):
        return weights_of(train(new_flow(data), data, stages, BY_ENERGY, folder, report, butane))

    check_resumable(fit, tmp_path, stops=(1, 1))
    with pytest.raises(InputError, match="stop_on: energy, needs a target"):
        train(new_flow(data), data, stages, BY_ENERGY, tmp_path / "other")


def test_training_gives_up_after_twenty_broken_steps_in_a_row(tmp_path):
    data = Butane().data()
    stages = [Stage("kl", 40, w_nll=0.0, w_kl=1.0, kl_batch=8, kl_drop=0)]
    with pytest.raises(InputError, match=r"20 steps in a row .* step 19"):
        train(new_flow(data), data, stages, SETTINGS, tmp_path, target=Broken())


@pytest.mark.parametrize("wrong", [{"betas": (0.9, 1.0)}, {"stop_on": "luck"}, {"stop_samples": 5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match="training"):
        TrainSettings(**wrong)


def test_the_decay_of_the_moments_is_used(tmp_path):
    data = Butane().data()
    found = []
    for betas in ((0.9, 0.999), (0.5, 0.9)):
        settings = replace(SETTINGS, betas=betas)
        flow = train(new_flow(data), data, [Stage("nll", 10, batch=32)], settings, tmp_path / str(betas[0]))
        found.append(torch.cat([parameter.flatten() for parameter in flow.parameters()]))
    assert not torch.equal(*found)
