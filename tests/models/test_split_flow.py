"""The split flow as a generator of whole conformations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gibbsian.chem.library import built_in
from gibbsian.coords.prior import draw_prior
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.split_flow import SplitFlow, SplitFlowConfig
from gibbsian.progress import Report
from gibbsian.testing.proposal import check_proposal
from gibbsian.testing.training import check_resumable
from gibbsian.training.distance_w2 import W2Settings
from gibbsian.training.loop import train
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.workflow.system import target_of

SYSTEM = built_in("ACE-ALA-NME")
SMALL = SplitFlowConfig(backbone=2, full=2, bins=4, width=16, key=8, value=16)


def frames(n: int = 3000) -> Tensor:
    start = torch.from_numpy(SYSTEM.positions).double()
    return draw_prior(SYSTEM.topology, start, 300.0, n, torch.Generator().manual_seed(0))


def shaken(flow: SplitFlow) -> SplitFlow:
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=g)
    return flow


@pytest.fixture(scope="module", params=["linear-gaussian", "flow"])
def flow(request) -> SplitFlow:
    return shaken(SplitFlow.from_data(SYSTEM.topology, frames(), config=replace(SMALL, completion=request.param)))


def test_conformance(flow):
    check_proposal(flow)


def test_density_of_the_path_is_that_of_the_coordinates(flow):
    x, log_q = flow.rsample(200, torch.Generator().manual_seed(0))
    assert torch.allclose(flow.log_prob(x), log_q, atol=2e-3)
    assert x.requires_grad
    assert log_q.requires_grad


def test_what_is_frozen_and_what_is_free_add_up(flow):
    assert flow.coordinates.variables.n == 12
    assert flow.coordinates.frozen.n == 48


def test_a_slice_has_its_frozen_coordinates_at_c0(flow):
    x, log_q = flow.rsample_slice(50, torch.Generator().manual_seed(0))
    y, c = flow.coordinates.from_x(x)
    difference = torch.remainder(c - flow.c0 + torch.pi, 2 * torch.pi) - torch.pi
    assert float(difference.detach().abs().max()) < 1e-9
    expected = flow.log_prob_free(y) - flow.coordinates.log_jacobian_free(y)
    assert torch.allclose(log_q, expected, atol=2e-3)
    free, log_free = flow.sample_free(50, torch.Generator().manual_seed(0))
    assert torch.allclose(free[:, 0], y[:, 0], atol=1e-9)
    assert torch.allclose(log_free, flow.log_prob_free(y), atol=2e-3)


def test_a_stored_flow_gives_the_same_bits(flow, tmp_path):
    flow.save(tmp_path / "flow")
    loaded = SplitFlow.load(tmp_path / "flow")
    x, log_q = flow.sample(20, torch.Generator().manual_seed(3))
    y, log_p = loaded.sample(20, torch.Generator().manual_seed(3))
    assert loaded.config == flow.config
    assert torch.equal(x, y)
    assert torch.equal(log_q, log_p)


def test_dropout_is_in_the_loss_only():
    flow = shaken(SplitFlow.from_data(SYSTEM.topology, frames(), config=replace(SMALL, dropout=0.5)))
    x, log_q = flow.sample(20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(flow.log_prob(x), log_q)
        first, again, other = (flow.objective(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(flow.log_prob(x), log_q)


def test_the_published_stages_resume_with_the_same_bits(tmp_path):
    x = frames(600)
    data = Ensemble(x.float().numpy(), torch.zeros(600).double().numpy(), SYSTEM.topology, 300.0)
    shared = {"batch": 32, "warmup": 2, "kl_batch": 16, "kl_drop": 2, "keep": "last"}
    stages = [
        Stage("nll", 6, batch=32, warmup=2),
        Stage("nll+w2", 4, w_w2=10.0, **shared),
        Stage("nll+w2+kl", 4, w_w2=10.0, w_kl=0.5, generated="slice", **shared),
        Stage("nll+kl", 4, w_kl=0.5, **shared),
    ]
    training = TrainSettings(evaluate_every=2, checkpoint_every=2, ema=0.9, w2=W2Settings(atoms="backbone"))

    def fit(folder: Path, report: Report) -> dict[str, Tensor]:
        made = SplitFlow.from_data(SYSTEM.topology, x.float(), config=SMALL)
        return train(made, data, stages, training, folder, report, target_of(SYSTEM)).state_dict()

    check_resumable(fit, tmp_path, stops=(2, 3, 2))


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="completion: got 'rigid'"):
        SplitFlowConfig(completion="rigid")  # pyright: ignore[reportArgumentType]
