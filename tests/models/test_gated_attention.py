import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from gibbsian.models.layers.gated_attention import MEAN, SPREAD, GatedAttention, ScaleNorm, laplace
from gibbsian.models.layers.positions import rotary_waves, rotate, t5_buckets
from gibbsian.models.split_config import SplitConfig

CONFIG = SplitConfig(width=12, key=8, value=10)
PLACES = torch.tensor([0, 3, 4, 9, 40])
NONE = PLACES[:0]
SWITCHES = [
    CONFIG,
    replace(CONFIG, positions=()),
    replace(CONFIG, positions=("t5",), attention="relu2", norm="layer"),
    replace(CONFIG, positions=("rotary",), attention="softmax"),
]


@torch.no_grad()
def unit(config: SplitConfig, places: torch.Tensor, others: torch.Tensor = NONE) -> GatedAttention:
    """A unit whose weights are far from those of a new one."""
    torch.manual_seed(3)
    made = GatedAttention(config, places, others)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    return made.double().requires_grad_(False)


def tokens(n_batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_batch, n, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(made: GatedAttention, x: torch.Tensor, config: SplitConfig) -> torch.Tensor:
    """One conformation (n, D) by the formulas of the paper, pair by pair."""
    n, d = x.shape
    if isinstance(made.norm, ScaleNorm):
        h = torch.stack([made.norm.g * row / max(float(row.norm()) / math.sqrt(d), 1e-5) for row in x])
    else:
        h = made.norm(x)
    u, s, v = functional.silu(made.inner(h)).split([10, 8, 10], -1)
    q, k = s * made.gain[0, 0] + made.offset[0, 0], s * made.gain[1, 0] + made.offset[1, 0]
    weights = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            distance = int(PLACES[j] - PLACES[i])
            a, b = (
                torch.view_as_complex(q[i].view(4, 2)),
                torch.view_as_complex(k[j].view(4, 2)),
            )
            # Turning both by their places turns their product by the distance.
            turn = torch.exp(1j * distance * 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4))
            weights[i, j] = (a.conj() * b * (turn if "rotary" in config.positions else 1.0)).real.sum()
            if made.bias is not None:
                bucket = t5_buckets(torch.tensor(distance))
                weights[i, j] += math.sqrt(d) * made.bias[bucket]
    if config.attention == "softmax":
        weights = torch.softmax(weights / math.sqrt(8.0), -1)
    else:
        weights = laplace(weights / n) if config.attention == "laplace" else torch.relu(weights / n) ** 2
    return x + made.outer(u * (weights @ v))


@pytest.mark.parametrize("config", SWITCHES)
def test_the_unit_against_its_formulas(config):
    made, x = unit(config, PLACES), tokens(2, 5)
    out = made(x, x[:, :0])
    assert float((out - x).abs().mean()) > 0.1
    for k in range(2):
        assert torch.allclose(out[k], by_hand(made, x[k], config), atol=2e-6)


@pytest.mark.parametrize("config", SWITCHES)
def test_tokens_shared_by_a_batch_are_like_tokens_of_each_conformation(config):
    shared, own = tokens(1, 3), tokens(4, 2, seed=1)
    apart = unit(config, PLACES[:3], PLACES[3:])(shared, own)
    everything = torch.cat([shared.expand(4, -1, -1), own], 1)
    assert apart.shape == (4, 3, 12)
    assert torch.allclose(apart, unit(config, PLACES)(everything, own[:, :0])[:, :3], atol=1e-12)


def test_the_laplace_function():
    z = torch.tensor([0.0, MEAN, MEAN + SPREAD], dtype=torch.float64)
    assert torch.allclose(laplace(z), torch.tensor([0.0061, 0.5, 0.84134]).double(), atol=4e-5)
    assert abs(SPREAD - 0.28209) < 1e-5


@pytest.mark.parametrize(("n", "positions"), [(5, ()), (5, ("t5",)), (50, ("t5",))])
def test_a_new_unit_reads_neighbours_and_is_almost_closed_to_others(n, positions):
    torch.manual_seed(0)
    config, places = replace(CONFIG, positions=positions), torch.arange(n)
    made, x = GatedAttention(config, places, NONE).double().requires_grad_(False), tokens(3, n)
    u, _, v = functional.silu(made.inner(made.norm(x))).split([10, 8, 10], -1)
    near = (places - places[:, None]).abs() < (8 if positions else 0)
    weights = torch.where(near, 0.5, 0.0061).double()
    assert torch.allclose(made(x, x[:, :0]), x + made.outer(u * (weights @ v)), atol=3e-3)


def test_scale_norm_gives_all_tokens_one_length():
    norm, x = ScaleNorm(12).double().requires_grad_(False), 50.0 * tokens(3, 5)
    assert torch.allclose(norm(x).norm(dim=-1), torch.full((3, 5), math.sqrt(12.0)).double())
    norm.g.fill_(0.5)
    assert torch.allclose(norm(x).norm(dim=-1), torch.full((3, 5), 0.5 * math.sqrt(12.0)).double())
    assert float(norm(torch.zeros(1, 12)).abs().max()) == 0.0


def test_bucket_table():
    edges = {0: 0, 1: 1, 7: 7, 8: 8, 11: 8, 12: 9, 15: 9, 16: 10, 22: 10, 23: 11, 31: 11, 32: 12, 45: 12, 46: 13}
    edges |= {63: 13, 64: 14, 90: 14, 91: 15, 127: 15, 128: 15, 200: 15}
    distance = torch.tensor(list(edges))
    expected = torch.tensor(list(edges.values()))
    assert torch.equal(t5_buckets(-distance), expected)
    assert torch.equal(t5_buckets(distance), expected + 16 * (distance > 0))


def test_rotary_phases_follow_the_places_and_leave_other_channels():
    x = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    near = rotate(x, rotary_waves(torch.tensor([3, 10]), 40))
    far = rotate(x, rotary_waves(torch.tensor([103, 110]), 40))
    assert torch.equal(near[:, 32:], x[:, 32:])
    assert float(near[0] @ near[1]) == pytest.approx(float(far[0] @ far[1]), abs=1e-4)
    assert abs(float(near[0] @ near[1]) - float(x[0] @ x[1])) > 1e-2


def test_permuted_batches_give_permuted_tokens():
    made, shared, own = unit(CONFIG, PLACES, PLACES + 1), tokens(1, 5), tokens(6, 5, seed=2)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert torch.allclose(made(shared, own)[order], made(shared, own[order]), atol=1e-12)


def test_dropout_needs_to_be_asked_for():
    made, x = unit(replace(CONFIG, dropout=0.5), PLACES).train(), tokens(2, 5)
    assert torch.equal(made(x, x[:, :0]), made(x, x[:, :0]))
    dropped = made(x, x[:, :0], drop=True) == x
    assert 0.2 < float(dropped.double().mean()) < 0.8
