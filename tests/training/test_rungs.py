from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import BUTANE, CONFIG, SETTINGS, Butane, weights_of
from torch import Tensor

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.spline import SplineFlow
from gibbsian.progress import Report
from gibbsian.sampling.importance import sample_snis
from gibbsian.testing.training import check_resumable
from gibbsian.training.loop import train
from gibbsian.training.rungs import RUNGS, rungs_of
from gibbsian.training.stages import Stage

HEATED = replace(CONFIG, temperatures=(300.0, 600.0))
STAGES = [
    Stage("nll", 10, batch=32, warmup=2),
    Stage("refit", 10, batch=40, lr=1e-3, refit_samples=400, refit_rounds=2, warmup=2),
]


class Warm(Butane):
    """Butane at another temperature than 300 K."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.factor = 300.0 / temperature

    def u(self, x: Tensor) -> Tensor:
        return self.factor * super().u(x)


def ladder(n: int = 4000) -> Ensemble:
    """Frames at 300 K whose widths belong to about 450 K, with weights and energies."""
    flow = SplineFlow.from_data(BUTANE, torch.from_numpy(np.array(Butane().data().positions)), config=HEATED)
    found = sample_snis(flow.at(480.0), Butane(), n, topology=BUTANE, temperature=300.0)
    return replace(found, log_q=None)


def new_flow(data: Ensemble) -> SplineFlow:
    x, log_w = (torch.from_numpy(np.array(column)) for column in (data.positions, data.log_w))
    return SplineFlow.from_data(BUTANE, x, log_w, config=HEATED)


def test_rungs_are_even_in_inverse_temperature():
    data = ladder(500)
    rungs = np.array(rungs_of(new_flow(data)))
    assert len(rungs) == RUNGS
    assert np.allclose(rungs[[0, -1]], [300.0, 600.0])
    assert np.allclose(np.diff(1.0 / rungs), np.diff(1.0 / rungs)[0])
    x = torch.from_numpy(np.array(data.positions))
    assert rungs_of(SplineFlow.from_data(BUTANE, x, config=CONFIG)) == ()


def test_training_at_all_temperatures_resumes_with_the_same_bits(tmp_path):
    data = ladder(1000)

    def fit(folder: Path, report: Report) -> dict[str, Tensor]:
        return weights_of(train(new_flow(data), data, STAGES, SETTINGS, folder, report, Butane()))

    check_resumable(fit, tmp_path, stops=(1, 3, 2))


def test_one_training_serves_every_temperature(tmp_path):
    data = ladder()
    flow = train(new_flow(data), data, [Stage("nll", 150, batch=128, lr=5e-3)], SETTINGS, tmp_path)
    for temperature in (300.0, 430.0, 600.0):
        target = Warm(temperature)
        drawn = sample_snis(flow.at(temperature), target, 2000, topology=BUTANE, temperature=temperature)
        wrong = sample_snis(flow.at(900.0 - temperature), target, 2000, topology=BUTANE, temperature=temperature)
        assert drawn.ess_fraction > 0.8, temperature
        assert temperature == 430.0 or drawn.ess_fraction > 1.5 * wrong.ess_fraction


def test_what_would_serve_one_temperature_is_refused(tmp_path):
    data = ladder(500)
    for stage in (replace(STAGES[0], w_kl=0.5), replace(STAGES[1], refit_source="smc")):
        with pytest.raises(InputError, match="would serve one temperature only"):
            train(new_flow(data), data, [stage], SETTINGS, tmp_path, target=Butane())
    with pytest.raises(InputError, match="divided over 8 temperatures; raise batch"):
        train(new_flow(data), data, [replace(STAGES[0], batch=4)], SETTINGS, tmp_path)


def test_data_without_energies_or_hot_frames_are_refused(tmp_path):
    data = ladder(500)
    with pytest.raises(InputError, match="without energies"):
        train(new_flow(data), replace(data, u=None), STAGES[:1], SETTINGS, tmp_path)
    assert data.u is not None
    cold = replace(data, u=40.0 * data.u)
    with pytest.raises(InputError, match=r"effective frames at \d+ K; simulate up to the highest"):
        train(new_flow(data), cold, STAGES[:1], SETTINGS, tmp_path)
