import numpy as np
import pytest
import torch

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.training.buffer import Buffer
from gibbsian.training.data import Frames, Source, enrich, split
from gibbsian.training.improve import sources_of
from gibbsian.training.losses import STEEPEST, U_HIGH, gentle, mean_loss, reverse_kl
from gibbsian.training.stages import Stage, TrainSettings

ATOM = Topology(("C",), ("C",), np.zeros(1, dtype=np.int64), ("X",), ("1",), np.zeros((0, 2), dtype=np.int64))


def frames(n: int, lineage: np.ndarray | None = None, log_w: np.ndarray | None = None) -> Ensemble:
    positions = np.arange(n, dtype=np.float32)[:, None, None].repeat(3, -1)
    return Ensemble(positions, np.zeros(n) if log_w is None else log_w, ATOM, 300.0, lineage=lineage)


def test_held_out_frames_are_contiguous_blocks():
    training, held_out = split(frames(4000), 0.1, seed=0)
    assert len(training) + len(held_out) == 4000
    assert len(held_out) == 400
    blocks = held_out.positions[:, 0, 0].astype(int) // 100
    assert len(np.unique(blocks)) == 4
    assert not set(blocks.tolist()) & set((training.positions[:, 0, 0].astype(int) // 100).tolist())


def test_held_out_frames_are_whole_lineages():
    lineage = np.arange(2000) % 20
    training, held_out = split(frames(2000, lineage), 0.1, seed=1)
    out = set((held_out.positions[:, 0, 0].astype(int) % 20).tolist())
    assert len(out) == 2
    assert not out & set((training.positions[:, 0, 0].astype(int) % 20).tolist())


def test_frames_of_weight_zero_are_left_out():
    log_w = np.where(np.arange(1000) % 2 == 0, 0.0, -np.inf)
    training, held_out = split(frames(1000, log_w=log_w), 0.2, seed=0)
    assert len(training) + len(held_out) == 500
    with pytest.raises(InputError, match="weighted frames"):
        split(frames(20), 0.1, 0)


def test_draws_follow_the_weights():
    log_w = torch.log(torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64))
    source = Source(Frames(torch.zeros(4, 1, 3), log_w), 20_000)
    share = torch.bincount(source.draw(torch.Generator().manual_seed(0)), minlength=4) / 20_000
    assert torch.allclose(share, torch.tensor([0.1, 0.2, 0.0, 0.7]), atol=0.02)


def test_a_clash_pulls_no_harder_than_thermal_motion_may():
    x = torch.zeros(4, 4, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = (
        gradient
        / gradient.flatten(1).norm(dim=1)[:, None, None]
        * torch.tensor([10.0, 2e3, 1e30, torch.inf])[:, None, None]
    )
    u = gentle(torch.tensor([-5.0, 20.0, 1e20, torch.inf]).double(), gradient, x)
    assert u[:2].tolist() == [-5.0, 20.0]
    assert U_HIGH < float(u[2].detach()) < U_HIGH + 50.0
    (pull,) = torch.autograd.grad(reverse_kl(u, torch.zeros(4).double(), drop=0), x)
    assert torch.allclose(3.0 * pull[:2], gradient[:2])
    assert torch.allclose(3.0 * pull[2], gradient[2] * (2 * STEEPEST / 1e30))
    assert torch.equal(pull[3], torch.zeros(4, 3).double())


def test_reverse_kl_drops_the_highest_energies_and_what_is_not_finite():
    u = torch.tensor([1.0, 2.0, 50.0, float("inf"), float("nan")])
    log_q = torch.zeros(5)
    assert float(reverse_kl(u, log_q, drop=3)) == pytest.approx(1.5)
    assert float(reverse_kl(u, log_q, drop=0)) == pytest.approx(53.0 / 3.0)


def test_the_mean_loss_leaves_out_frames_outside_the_support():
    assert float(mean_loss(torch.tensor([1.0, 3.0, torch.inf, torch.nan]))) == pytest.approx(2.0)


def test_buffer_survives_storage():
    buffer = Buffer()
    buffer.add(torch.randn(10, 1, 3), torch.arange(10.0), torch.zeros(10))
    restored = Buffer.from_tensors(buffer.tensors())
    for mine, theirs in zip(buffer.merged(), restored.merged(), strict=True):
        assert torch.equal(mine, theirs)


def test_buffer_gives_broken_energies_no_weight():
    buffer = Buffer()
    u = torch.tensor([0.0, float("inf"), float("nan"), 0.0], dtype=torch.float64)
    assert buffer.add(torch.zeros(4, 1, 3), u, torch.zeros(4, dtype=torch.float64)) == pytest.approx(2.0)
    assert len(buffer) == 2


def test_own_samples_enter_by_their_effective_number():
    given, held_out = (Frames(torch.zeros(n, 1, 3), torch.zeros(n, dtype=torch.float64)) for n in (1000, 100))
    stage = Stage("refit", 10, batch=200, refit_samples=1000, refit_fraction=0.8)
    zero = torch.zeros(1000, dtype=torch.float64)
    shares = []
    for u in (zero, 1e3 * torch.arange(1000, dtype=torch.float64)):  # all alike; one takes all the weight
        buffer = Buffer()
        buffer.add(torch.zeros(1000, 1, 3), u, zero)
        training, validation = sources_of(stage, TrainSettings(), given, held_out, buffer, ATOM)
        shares.append(sum(source.n for source in training[1:]) / 200)
        assert sum(source.n for source in training) == 200
        assert [source.n for source in training] == [source.n for source in validation]
        if len(training) == 2:
            assert len(training[1].frames) == 900
    assert shares == [0.5, 0.0]


def test_rare_basins_get_their_share_and_others_keep_their_proportions():
    topology = backbone_topology(1)
    phi, psi = np.full(1000, -1.2), np.full(1000, 2.5)
    phi[:5], psi[500:] = 1.0, -0.7  # 0.5 % left, the rest half beta and half alpha
    x = torch.from_numpy(backbone_positions(phi[:, None], psi[:, None]))
    raised = torch.softmax(enrich(Frames(x, torch.zeros(1000, dtype=torch.float64)), topology, 0.08).log_w, 0)
    assert float(raised[:5].sum()) == pytest.approx(0.05 / (0.05 + 0.995), rel=1e-6)  # raised tenfold, no more
    assert float(raised[500:].sum() / raised[5:500].sum()) == pytest.approx(500 / 495)
    same = enrich(Frames(x, torch.zeros(1000, dtype=torch.float64)), topology, 0.0)
    assert torch.equal(same.log_w, torch.zeros(1000, dtype=torch.float64))
