import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import TarFlowConfig
from gibbsian.progress import Report
from gibbsian.testing.toys import HarmonicMolecule
from gibbsian.testing.training import check_resumable
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.units import kt

CONFIG = TarFlowConfig(blocks=2, depth=1, width=16, head=8, start=True, frame=(1, 0, 2))
SETTINGS = TrainSettings(evaluate_every=5, checkpoint_every=5, patience=50, ema=0.9)
STAGES = [Stage("nll", 10, batch=32, warmup=2), Stage("refit", 10, batch=32, refit_samples=200, warmup=2)]
STAR = Topology(
    atom_names=("C1", "C2", "C3", "C4"),
    elements=("C",) * 4,
    residue_index=np.zeros(4, dtype=np.int64),
    residue_names=("MOL",),
    residue_ids=("1",),
    bonds=np.array([[0, 1], [0, 2], [0, 3]]),
)


class Springs:
    """All atoms joined by springs: rotation invariant, and Gaussian in Cartesian coordinates."""

    n_atoms = 4

    def __init__(self) -> None:
        self.molecule = HarmonicMolecule(4, k=200.0)

    def u(self, x: Tensor) -> Tensor:
        return self.molecule.energy(x.double()) / kt(300.0)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().double().requires_grad_()
        with torch.enable_grad():
            u = self.u(x)
            return u.detach(), torch.autograd.grad(u.sum(), x)[0]

    def data(self, n: int) -> Ensemble:
        width = (kt(300.0) / (self.molecule.k * 4)) ** 0.5
        x = width * torch.randn(n, 4, 3, generator=torch.Generator().manual_seed(0))
        return Ensemble((x + 5.0).numpy(), np.zeros(n), STAR, 300.0)


def new_flow(data: Ensemble, config: TarFlowConfig = CONFIG) -> TarFlow:
    return TarFlow.from_data(STAR, torch.from_numpy(np.array(data.positions)), config=config)


def test_stopped_training_continues_with_the_same_bits(tmp_path):
    springs = Springs()
    data = springs.data(1000)

    def fit(folder: Path, report: Report) -> dict[str, Tensor]:
        flow = train(new_flow(data), data, STAGES, SETTINGS, folder, report, springs)
        return {name: tensor.clone() for name, tensor in flow.state_dict().items()}

    check_resumable(fit, tmp_path, stops=(1, 2, 1))


@pytest.mark.physics
def test_data_far_from_the_origin_are_learnt_with_the_centre_that_is_divided_out(tmp_path):
    springs = Springs()
    data = springs.data(4000)
    stages = [Stage("nll", 150, batch=128, lr=1e-2), Stage("refit", 50, batch=128, lr=2e-3, refit_samples=2000)]
    flow = train(new_flow(data), data, stages, replace(SETTINGS, evaluate_every=25), tmp_path, target=springs)
    x, log_q = flow.sample(4000, torch.Generator().manual_seed(1))
    assert float(x.mean(1).abs().max()) < 1.0
    log_w = flow.log_gauge(x) - springs.u(x) - log_q
    assert ess(log_w.numpy()) / len(x) > 0.9
    assert float(torch.logsumexp(log_w, 0)) - np.log(len(x)) == pytest.approx(springs.molecule.log_z(300.0), abs=0.05)


def test_every_evaluation_sees_the_same_poses(tmp_path):
    data = Springs().data(500)
    flow = new_flow(data)
    still = [Stage("nll", 10, batch=8, lr=1e-30)]
    train(flow, data, still, replace(SETTINGS, weight_decay=0.0), tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[0]["held_out"] == log[1]["held_out"]


def test_another_gauge_in_the_folder_is_refused(tmp_path):
    data = Springs().data(500)
    train(new_flow(data), data, STAGES[:1], SETTINGS, tmp_path)
    with pytest.raises(InputError, match="another folder"):
        train(new_flow(data, replace(CONFIG, com="chi3")), data, STAGES[:1], SETTINGS, tmp_path)


def test_reverse_kl_is_refused(tmp_path):
    springs = Springs()
    data = springs.data(500)
    stages = [Stage("kl", 5, w_kl=1.0, kl_batch=16)]
    with pytest.raises(InputError, match="not differentiable"):
        train(new_flow(data), data, stages, SETTINGS, tmp_path, target=springs)
