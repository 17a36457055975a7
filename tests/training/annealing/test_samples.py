"""Samples of a fit: draws of a flow joined with frames of the target, and weights that no single one governs."""

import math
from dataclasses import replace

import pytest
import torch
from one_atom import MEANS, QUICK, SHARES, TRAINING, OneAtom, target, weighted

from gibbsian.errors import InputError
from gibbsian.targets.extended import Extended
from gibbsian.training.annealing.annealer import anneal
from gibbsian.training.annealing.samples import LEAST_EFFECTIVE, bounded, join
from gibbsian.training.annealing.transport import Drawn, draw_plain
from gibbsian.training.annealing.weights import FINAL, Weighted, weigh
from gibbsian.training.data import Frames, Source

N = 20_000


def frames(n: int = N) -> Frames:
    """Draws of the mixture itself."""
    generator = torch.Generator().manual_seed(3)
    mode = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    x = MEANS[mode] + 0.05 * torch.randn(n, 3, generator=generator)
    return Frames(x[:, None], torch.zeros(n, dtype=torch.float64))


def joined(flow: OneAtom, n: int = N, m: int = 5_000) -> tuple[Drawn, tuple[Drawn, Weighted]]:
    extended = Extended(target(), flow.log_gauge)
    drawn = draw_plain(flow, extended, n, seed=1)
    return drawn, join(drawn, Source(frames(), m), [], flow, extended, torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> OneAtom:
    return anneal(OneAtom(), target(), 300.0, replace(QUICK, calls=15_000), TRAINING, tmp_path_factory.mktemp("flow"))


def test_both_parts_together_are_weighted_for_the_target(flow):
    """Log Z is known to be 0, the means of the mixture as well."""
    drawn, (pool, step) = joined(flow)
    assert pool.calls == drawn.calls + 5_000
    assert len(pool.x) == N + 5_000
    assert float(torch.logsumexp(step.log_w, 0)) - math.log(len(pool.x)) == pytest.approx(0.0, abs=0.02)
    assert float(step.log_w.max()) <= math.log((N + 5_000) / 5_000) + 1e-6
    assert step.ess > weigh(drawn.log_q, drawn.log_p, FINAL).ess
    mean = (torch.softmax(step.log_w, 0)[:, None] * pool.x[:, 0]).sum(0)
    torch.testing.assert_close(mean.float(), SHARES @ MEANS, atol=0.01, rtol=0)


def test_draws_that_do_not_tell_log_z_are_refused_and_change_nothing(tmp_path):
    drawn, (same, step) = joined(OneAtom(), n=int(LEAST_EFFECTIVE), m=50)
    assert same is drawn
    assert step.ess == 0.0
    flow = OneAtom()
    before = {name: tensor.clone() for name, tensor in flow.state_dict().items()}
    with pytest.raises(InputError, match="5 steps in a row were refused"):
        anneal(
            flow,
            target(),
            300.0,
            replace(QUICK, samples=int(LEAST_EFFECTIVE), frames=50),
            TRAINING,
            tmp_path,
            frames=frames(),
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in flow.state_dict().items())


def test_frames_bring_back_a_mode_that_the_flow_has_lost(tmp_path):
    """Fitted to three modes only, a flow has the fourth back where frames join, and is late without."""
    three = Frames(frames().x[frames().x[:, 0, :2].sum(1) > -0.25], torch.zeros(0))
    assert len(three) < N
    lost = OneAtom()
    optimiser = torch.optim.Adam(lost.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        batch = three.x[torch.randint(len(three.x), (256,), generator=generator)]
        optimiser.zero_grad()
        (-lost.log_prob(batch).mean()).backward()
        optimiser.step()
    shares = {}
    for n in (0, 1_000):
        flow = OneAtom()
        flow.load_state_dict(lost.state_dict())
        settings = replace(QUICK, calls=16_000, samples=2_000, frames=n, trust=0.2)
        anneal(flow, target(), 300.0, settings, TRAINING, tmp_path / str(n), frames=frames())
        nearest = weighted(flow)[2]
        shares[n] = float((nearest == 3).double().mean())
    assert shares[1_000] == pytest.approx(float(SHARES[3]), rel=0.3)
    assert shares[0] < 0.8 * shares[1_000]


def test_frames_without_a_simulation_are_refused(tmp_path):
    with pytest.raises(InputError, match="needs a simulation"):
        anneal(OneAtom(), target(), 300.0, replace(QUICK, frames=100), TRAINING, tmp_path)


def test_a_fit_does_not_learn_an_outstanding_sample_by_heart():
    log_w = torch.zeros(1000, dtype=torch.float64)
    log_w[3] = 8.0
    shares = torch.softmax(bounded(Frames(torch.zeros(1000, 1, 3), log_w), 0.002).log_w, 0)
    assert float(shares[3]) < 0.01
    assert torch.equal(shares[4:], shares[4].expand(996))
    level = Frames(torch.zeros(10, 1, 3), torch.zeros(10, dtype=torch.float64))
    assert torch.allclose(torch.softmax(bounded(level, 3.0).log_w, 0), torch.full((10,), 0.1).double())
