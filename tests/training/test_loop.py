import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import Internal, InternalCoordinates, wrap
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError, StoppedError
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.progress import Report
from gibbsian.testing.reports import stop_at
from gibbsian.testing.training import check_resumable
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.training.step import learning_rate

CONFIG = SplineConfig(couplings=(2, 2, 2), bins=4, hidden=16)
SETTINGS = TrainSettings(evaluate_every=5, checkpoint_every=5, patience=50, ema=0.9)
STAGES = [
    Stage("nll", 10, batch=32, warmup=2),
    Stage("refit", 10, batch=32, lr=1e-3, refit_samples=200, warmup=2),
    Stage("kl", 10, w_nll=0.5, w_kl=0.5, lr=1e-3, batch=32, kl_batch=32, kl_drop=2, warmup=2),
]
BUTANE = Topology(
    atom_names=("C1", "C2", "C3", "C4"),
    elements=("C",) * 4,
    residue_index=np.zeros(4, dtype=np.int64),
    residue_names=("MOL",),
    residue_ids=("1",),
    bonds=np.array([[0, 1], [1, 2], [2, 3]]),
)


class Butane:
    """Harmonic bonds and angles whose means follow a torsion with two wells: phi = 0 and phi = pi."""

    n_atoms = 4

    def __init__(self) -> None:
        self.coordinates = InternalCoordinates(BUTANE)
        self.calls = 0

    def u(self, x: Tensor) -> Tensor:
        self.calls += len(x)
        y, _ = self.coordinates.forward(x.double())
        phi = y.torsions[:, 0]
        angle = y.angles - 1.9 - 0.1 * torch.cos(phi)[:, None]
        return (
            0.5 * ((y.bonds - 0.15) / 0.005).square().sum(-1)
            + 0.5 * (angle / 0.05).square().sum(-1)
            - 2.0 * torch.cos(2.0 * phi)
        )

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        u = self.u(x)
        return u.detach(), torch.autograd.grad(u.sum(), x)[0]

    def data(self, n: int = 2000) -> Ensemble:
        g = torch.Generator().manual_seed(0)
        phi = torch.pi * torch.randint(0, 2, (n, 1), generator=g) + 0.36 * torch.randn(n, 1, generator=g)
        phi = wrap(phi.double())
        angles = 1.9 + 0.1 * torch.cos(phi) + 0.05 * torch.randn(n, 2, generator=g, dtype=torch.float64)
        bonds = 0.15 + 0.005 * torch.randn(n, 3, generator=g, dtype=torch.float64)
        x, _ = self.coordinates.inverse(Internal(bonds, angles, phi))
        return Ensemble(x.numpy().astype(np.float32), np.zeros(n), BUTANE, 300.0)


def new_flow(data: Ensemble) -> SplineFlow:
    return SplineFlow.from_data(BUTANE, torch.from_numpy(np.array(data.positions)), config=CONFIG)


def weights_of(flow: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in flow.state_dict().items()}


@pytest.mark.parametrize("stop", [5, 10, 15, 25])
def test_resume_gives_the_same_bits_in_every_stage(tmp_path, stop):
    butane = Butane()
    data = butane.data()
    whole = train(new_flow(data), data, STAGES, SETTINGS, tmp_path / "whole", target=butane)
    with pytest.raises(StoppedError):
        train(new_flow(data), data, STAGES, SETTINGS, tmp_path / "parts", stop_at(stop), butane)
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": stop + 1}) + "\n" + '{"step": 2')  # what a kill leaves behind
    resumed = train(new_flow(data), data, STAGES, SETTINGS, tmp_path / "parts", target=butane)
    for name, tensor in weights_of(whole).items():
        assert torch.equal(tensor, weights_of(resumed)[name]), name
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "parts" / "log.jsonl").read_text()


def test_training_conforms(tmp_path):
    butane = Butane()
    data = butane.data()

    def fit(folder: Path, report: Report) -> dict[str, Tensor]:
        return weights_of(train(new_flow(data), data, STAGES, SETTINGS, folder, report, butane))

    check_resumable(fit, tmp_path, stops=(1, 2, 1))


def test_finished_training_is_not_repeated(tmp_path):
    butane = Butane()
    data = butane.data()
    first = train(new_flow(data), data, STAGES, SETTINGS, tmp_path, target=butane)
    calls = butane.calls
    again = train(new_flow(data), data, STAGES, SETTINGS, tmp_path, target=butane)
    assert butane.calls == calls
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_another_training_in_the_folder_is_refused(tmp_path):
    data = Butane().data()
    train(new_flow(data), data, STAGES[:1], SETTINGS, tmp_path)
    with pytest.raises(InputError, match="another folder"):
        train(new_flow(data), data, [Stage("nll", 11)], SETTINGS, tmp_path)


def test_likelihood_improves_and_the_result_samples_the_target(tmp_path):
    butane = Butane()
    data = butane.data(4000)
    stages = [
        Stage("nll", 200, batch=128, lr=5e-3, warmup=10),
        Stage("refit", 100, batch=128, lr=2e-3, refit_samples=2000, warmup=10),
    ]
    flow = train(new_flow(data), data, stages, TrainSettings(evaluate_every=50, ema=0.95), tmp_path, target=butane)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[3]["best"] < log[0]["best"]
    x, log_q = flow.sample(4000, torch.Generator().manual_seed(1))
    log_w = -butane.u(x) - log_q
    ess = float(torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))) / 4000
    assert ess > 0.8
    phi = butane.coordinates.forward(x)[0].torsions[:, 0]
    population = float((torch.softmax(log_w, 0) * (torch.cos(phi) > 0)).sum())
    assert abs(population - 0.5) < 0.05


def test_reverse_kl_alone_reaches_the_covariance_of_a_harmonic_molecule(tmp_path):
    butane = Butane()
    data = butane.data(4000)
    stages = [Stage("kl", 300, w_nll=0.0, w_kl=1.0, lr=5e-3, kl_batch=128, kl_drop=0, warmup=10)]
    settings = TrainSettings(evaluate_every=50, patience=100, ema=0.95)
    flow = train(new_flow(data), data, stages, settings, tmp_path, target=butane)
    x, _ = flow.sample(4000, torch.Generator().manual_seed(1))
    y, _ = butane.coordinates.forward(x)
    residual = y.angles - 1.9 - 0.1 * torch.cos(y.torsions)
    assert torch.allclose(residual.std(0), torch.full((2,), 0.05, dtype=torch.float64), atol=0.006)
    assert torch.allclose(y.bonds.std(0), torch.full((3,), 0.005, dtype=torch.float64), atol=0.0006)


class Broken(Butane):
    """Every energy is NaN."""

    def u(self, x: Tensor) -> Tensor:
        return super().u(x) * math.nan


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path):
    data = Butane().data()
    flow = new_flow(data)
    before = weights_of(flow)
    stages = [Stage("kl", 5, w_nll=0.0, w_kl=1.0, kl_batch=8, kl_drop=0)]
    train(flow, data, stages, SETTINGS, tmp_path, target=Broken())
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["skipped"] == 5
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(flow).items())


def test_early_stopping_ends_a_stage_and_goes_on_with_the_next(tmp_path):
    data = Butane().data(200)
    stages = [Stage("long", 400, batch=64, lr=2e-2, warmup=1), Stage("next", 5, batch=32, lr=1e-5)]
    settings = TrainSettings(evaluate_every=5, checkpoint_every=50, patience=3, ema=0.0)
    train(new_flow(data), data, stages, settings, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["stage"] == "next"
    assert len(log) < 81


def test_a_stage_with_energies_needs_a_target(tmp_path):
    data = Butane().data()
    with pytest.raises(InputError, match="needs a target"):
        train(new_flow(data), data, STAGES, SETTINGS, tmp_path)


def test_learning_rate_warms_up_and_ends_at_zero():
    stage = Stage("s", 100, lr=1.0, warmup=10)
    assert learning_rate(stage, 0) == pytest.approx(0.1)
    assert learning_rate(stage, 9) > learning_rate(stage, 50) > learning_rate(stage, 99)
    assert learning_rate(stage, 99) < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"w_nll": 0.0},
        {"w_nll": float("nan")},
        {"lr": float("nan")},
        {"warmup": -1},
        {"refit_fraction": 2.0},
        {"refit_samples": -4},
        {"refit_samples": 5, "refit_penalty": float("nan")},
        {"kl_drop": 300},
    ],
)
def test_wrong_stages_are_refused(wrong):
    with pytest.raises(InputError, match="stage s"):
        Stage(**({"name": "s", "steps": 10} | wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ema": 1.0},
        {"held_out": 0.0},
        {"held_out": 1.0},
        {"rare_share": -1.0},
        {"evaluate_every": 0},
        {"patience": 0},
        {"checkpoint_every": 0},
        {"clip": 0.0},
        {"clip": float("nan")},
        {"weight_decay": -1.0},
        {"seed": -1},
    ],
)
def test_wrong_training_settings_are_refused_and_named(wrong):
    with pytest.raises(InputError, match=f"training: .*{next(iter(wrong))}"):
        TrainSettings(**wrong)


def test_a_stage_may_keep_its_last_weights_instead_of_the_best(tmp_path):
    data = Butane().data()
    stages = [Stage("nll", 30, batch=64, lr=5e-2, warmup=1, keep=keep) for keep in ("best", "last")]
    settings = replace(SETTINGS, ema=0.0, evaluate_every=1, patience=2)
    lines = []
    for stage in stages:
        train(new_flow(data), data, [stage], settings, tmp_path / stage.keep)
        lines.append([json.loads(line) for line in (tmp_path / stage.keep / "log.jsonl").read_text().splitlines()])
    assert len(lines[0]) < len(lines[1]) == 30
    assert lines[1][-1]["best"] == lines[1][-1]["held_out"]
