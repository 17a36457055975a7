import json
from dataclasses import replace

import pytest
import torch
from test_loop import SETTINGS, Butane, new_flow, weights_of
from test_tarflow_training import Springs
from test_tarflow_training import new_flow as new_tarflow

from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.targets.extended import Extended
from gibbsian.testing.training import check_resumable
from gibbsian.training import loop
from gibbsian.training.buffer import Buffer
from gibbsian.training.improve import Quality, add_own, draw_own, quality, rounds
from gibbsian.training.loop import train
from gibbsian.training.losses import pull
from gibbsian.training.stages import Stage
from gibbsian.units import kt

REFIT = Stage("own", 10, batch=32, lr=1e-3, warmup=2, refit_samples=300)
IMPROVE = replace(REFIT, refit_penalty=0.5, refit_rounds=3, refit_guard=True)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_stage_repeats_under_its_name():
    names = [(stage.name, turn) for stage, turn in rounds([Stage("nll", 5), IMPROVE])]
    assert names == [("nll", 0), ("own", 0), ("own 2", 1), ("own 3", 2)]


@pytest.mark.parametrize("source", ["snis", "smc"])
def test_self_improvement_resumes_with_the_same_bits(tmp_path, source):
    springs = Springs()
    data = springs.data(1000)
    stages = [Stage("nll", 10, batch=32, warmup=2), replace(IMPROVE, refit_source=source)]

    def fit(folder, report):
        return weights_of(train(new_tarflow(data), data, stages, SETTINGS, folder, report, springs))

    # The guard may take a round back, so that fewer checkpoints follow.
    check_resumable(fit, tmp_path, stops=(3, 1))
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


@pytest.mark.parametrize("source", ["snis", "smc"])
def test_own_samples_have_the_weights_of_the_target(source):
    springs = Springs()
    flow = new_tarflow(springs.data(1000))
    buffer = Buffer()
    stage = replace(REFIT, refit_samples=4000, refit_source=source)
    add_own(buffer, flow, stage, Extended(springs, flow.log_gauge), 300.0, seed=0)
    x, log_w = buffer.merged()
    x = x - x.mean(1, keepdim=True)
    spread = float((torch.softmax(log_w, 0) * x.square().sum((1, 2))).sum())
    # Centred, four atoms joined by springs have nine Gaussian coordinates.
    wanted = 9.0 * kt(300.0) / (springs.molecule.k * 4)
    assert spread == pytest.approx(wanted, rel=0.1)
    assert buffer.effective < 4000
    assert buffer.effective == pytest.approx(ess(log_w.numpy()))  # nothing was resampled


def test_draws_do_not_depend_on_how_many_are_asked_for():
    butane = Butane()
    flow = new_flow(butane.data())
    target = Extended(butane, flow.log_gauge)
    few, many = (draw_own(flow, n, target, seed=3) for n in (1000, 2500))
    assert all(torch.equal(a, b[:1000]) for a, b in zip(few, many, strict=True))
    assert len(many[0]) == 2500


def test_a_strong_penalty_keeps_the_model_where_it_was(tmp_path):
    butane = Butane()
    data = butane.data()
    before = Stage("nll", 20, batch=64, lr=5e-3)
    x = torch.from_numpy(data.positions)
    teacher = train(new_flow(data), data, [before], SETTINGS, tmp_path / "teacher").log_prob(x).detach()
    moved = {}
    for penalty in (0.0, 1e4):
        stages = [before, replace(REFIT, steps=30, lr=5e-3, refit_penalty=penalty)]
        flow = train(new_flow(data), data, stages, SETTINGS, tmp_path / str(penalty), target=butane)
        moved[penalty] = float(pull(flow.log_prob(x).detach(), teacher).mean())
    assert moved[1e4] < 0.3 * moved[0.0]
    assert log_of(tmp_path / "10000.0")[-1]["penalty"] >= 0


def test_a_round_that_made_the_model_worse_is_taken_back(tmp_path, monkeypatch):
    butane = Butane()
    data = butane.data()
    before = Stage("nll", 20, batch=64, lr=5e-3)
    alone = train(new_flow(data), data, [before], SETTINGS, tmp_path / "alone")
    found = iter([Quality(0.5, 0), Quality(0.6, 0)])  # of the new weights, of the old ones
    monkeypatch.setattr(loop, "quality", lambda *_: next(found))
    stages = [before, IMPROVE]
    guarded = train(new_flow(data), data, stages, SETTINGS, tmp_path / "guarded", target=butane)
    assert all(torch.equal(tensor, weights_of(guarded)[name]) for name, tensor in weights_of(alone).items())
    lines = log_of(tmp_path / "guarded")
    assert lines[-1]["guard"] == "taken back"
    assert {line["stage"] for line in lines} == {"nll", "own"}
    calls = butane.calls
    train(new_flow(data), data, stages, SETTINGS, tmp_path / "guarded", target=butane)
    assert butane.calls == calls


def test_quality_counts_the_basins_that_draws_reach():
    butane = Butane()
    data = butane.data()
    flow = new_flow(data)
    found = quality(flow, data, 500, Extended(butane, flow.log_gauge), seed=0)
    assert 0 < found.ess < 1
    assert found.covered == 0
    better = Quality(found.ess + 0.1, 0)
    assert found.falls_behind(better)
    assert not better.falls_behind(found)
    assert Quality(0.9, 2).falls_behind(Quality(0.5, 3))


@pytest.mark.parametrize(
    "wrong",
    [{"refit_source": "luck"}, {"refit_penalty": -1.0}, {"refit_rounds": 0}, {"refit_samples": 0, "refit_rounds": 2}],
)
def test_wrong_refits_are_refused(wrong):
    with pytest.raises(InputError, match="stage own"):
        replace(REFIT, **wrong)
