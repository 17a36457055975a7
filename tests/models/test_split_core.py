import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gibbsian.errors import InputError
from gibbsian.models.layers.circular_base import ProductBase, fit_von_mises
from gibbsian.models.layers.token_coupling import TokenCoupling
from gibbsian.models.split_config import PRESETS, SplitConfig
from gibbsian.models.split_core import CoreStatistics, SplitCore, match_parameters, plan_couplings

TINY = replace(PRESETS["ci"], bins=4, width=8, key=4, value=6)
MLP = replace(TINY, backbone=0, full=6, conditioner="mlp", hidden=12)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Variables of no molecule in particular."""

    kinds: tuple[str, ...]
    residues: NDArray[np.int64]
    residue_names: tuple[str, ...]
    backbone: NDArray[np.bool_]

    @property
    def periodic(self) -> NDArray[np.bool_]:
        return np.array([kind != "angle" for kind in self.kinds])

    @property
    def n(self) -> int:
        return len(self.kinds)


def chain(n_residues: int, side_chain: int = 2) -> Tokens:
    kinds = ("angle", "phi", "angle", "psi", "angle", "omega", *[f"chi{k + 1}" for k in range(side_chain)])
    n = len(kinds)
    return Tokens(
        kinds * n_residues,
        np.arange(n_residues).repeat(n),
        tuple(("LEU", "SER")[r % 2] for r in range(n_residues) for _ in kinds),
        np.tile(np.arange(n) < 6, n_residues),
    )


def statistics(variables: Tokens, concentration: float = 2.0) -> CoreStatistics:
    n = variables.n
    mean, sd = torch.linspace(1.8, 2.2, n).double(), torch.linspace(0.04, 0.4, n).double()
    return CoreStatistics(mean, sd, torch.linspace(0.0, 0.9, n).double(), torch.full((n,), concentration).double())


@torch.no_grad()
def core(variables: Tokens, config: SplitConfig = TINY, scale: float = 0.3, seed: int = 0) -> SplitCore:
    """A core with random weights in all places, also where a new one has zeros."""
    torch.manual_seed(seed)
    made = SplitCore(variables, statistics(variables), config).double().eval()
    for parameter in made.parameters():
        parameter += scale * torch.randn_like(parameter)
    return made.requires_grad_(False)


def draw(variables: Tokens, n: int, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    turns = torch.rand(n, variables.n, generator=g, dtype=torch.float64)
    real = torch.randn(n, variables.n, generator=g, dtype=torch.float64)
    return torch.where(torch.from_numpy(variables.periodic), turns, real)


def jacobians(f, v: torch.Tensor) -> torch.Tensor:
    """(B, outputs, inputs); rows of a batch do not see each other."""
    summed = torch.autograd.functional.jacobian(lambda u: f(u).sum(0), v)
    assert isinstance(summed, torch.Tensor)
    return summed.movedim(1, 0)


CONFIGS = [
    TINY,
    replace(TINY, head="per_variable", positions=("absolute",), attention="softmax", norm="layer"),
    replace(TINY, positions=("t5", "absolute"), attention="relu2", base="von-mises"),
    MLP,
]


@pytest.mark.parametrize("config", CONFIGS)
def test_log_determinant_against_autograd_and_inverse(config):
    variables = chain(2)
    made, v = core(variables, config), draw(variables, 6)
    z, log_det = made.to_base(v)
    assert float((z - v).abs().mean()) > 0.05
    assert torch.allclose(
        torch.linalg.slogdet(jacobians(lambda u: made.to_base(u)[0], v)).logabsdet, log_det, atol=1e-9
    )
    back, log_back = made.from_base(z)
    assert torch.allclose(back, v, atol=1e-9)
    assert torch.allclose(log_back, -log_det, atol=1e-9)


@pytest.mark.parametrize("config", [TINY, MLP])
def test_hidden_tokens_do_not_see_their_own_values(config):
    variables = chain(2)
    made, v = core(variables, config), draw(variables, 4)
    identity = None if made.identity is None else made.identity()
    for layer in made.couplings:
        assert isinstance(layer, TokenCoupling)
        jacobian = jacobians(lambda u, layer=layer: layer(u, identity)[0], v)
        block = jacobian[:, layer.changed][:, :, layer.changed]
        assert float((block - torch.diag_embed(block.diagonal(dim1=1, dim2=2))).abs().max()) == 0.0
        assert bool((jacobian[:, layer.changed][:, :, layer.kept].abs().amax(0) > 0.0).all())
        rest = np.setdiff1d(np.arange(variables.n), layer.changed.numpy())
        assert torch.equal(jacobian[:, rest], torch.eye(variables.n).double()[rest].expand(4, -1, -1))


def test_kept_variables_act_together():
    """A sum over kept variables could not say that one of them matters for some values of another."""
    made = core(chain(2), scale=1.0)
    coupling = made.couplings[-1]
    assert made.identity is not None
    assert isinstance(coupling, TokenCoupling)
    angle = torch.rand(20, len(coupling.kept), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = torch.zeros_like(angle), torch.zeros_like(angle)
    first[:, 0], second[:, 1] = 1.0, 1.0
    steps = (angle, angle + first, angle + second, angle + first + second)
    circles = [torch.stack([step.cos(), step.sin()], -1) for step in steps]
    none, one, other, both = (coupling.conditioner(circle, made.identity(), False) for circle in circles)
    assert float((both - one - other + none).abs().mean()) > 1e-4 * float((one - none).abs().mean())


def test_bond_angles_are_seen_on_the_scale_that_they_vary_on():
    """One standard deviation turns the feature of an angle by a tenth of a turn."""
    made = core(chain(2)).couplings[-1]
    assert isinstance(made, TokenCoupling)
    periodic = torch.from_numpy(chain(2).periodic)[made.kept]
    assert bool(periodic.any())
    assert not bool(periodic.all())
    assert torch.allclose(made.scale, torch.where(periodic, 2.0 * math.pi, math.pi / 5.0).to(made.scale.dtype))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_new_core_is_the_identity(config):
    variables = chain(2)
    torch.manual_seed(0)
    made = SplitCore(variables, statistics(variables), config).double().requires_grad_(False)
    v = draw(variables, 20)
    z, log_det = made.to_base(v)
    assert torch.allclose(z, v, atol=1e-12)
    assert float(log_det.abs().max()) < 1e-12


@pytest.mark.parametrize(("name", "n_backbone", "n_full"), [("paper", 48, 10), ("small", 4, 4), ("ci", 4, 2)])
def test_every_variable_is_transformed_in_half_of_the_couplings_of_each_stack(name, n_backbone, n_full):
    variables = chain(3)
    made = SplitCore(variables, statistics(variables), replace(PRESETS[name], width=8))
    layers = [layer for layer in made.couplings if isinstance(layer, TokenCoupling)]
    assert len(layers) == n_backbone + n_full
    for stack, channel in (
        (layers[:n_backbone], variables.backbone),
        (layers[n_backbone:], np.full(variables.n, True)),
    ):
        times = sum(np.isin(np.arange(variables.n), layer.changed.numpy()).astype(int) for layer in stack)
        assert np.array_equal(times, np.where(channel, len(stack) // 2, 0))
        for layer in stack:
            both = np.concatenate([layer.changed.numpy(), layer.kept.numpy()])
            assert np.array_equal(np.sort(both), np.flatnonzero(channel))


def test_three_pairs_part_near_variables_and_every_fourth_pair_is_a_random_half():
    columns = np.arange(5, 25)
    plan = plan_couplings(columns, 16, seed=0)
    changed = [np.isin(columns, columns_of) for columns_of, _ in plan[::2]]
    for one in range(len(columns)):
        for other in range(one + 1, min(one + 8, len(columns))):
            assert any(half[one] != half[other] for half in changed[:3])
    assert all(np.array_equal(changed[k], changed[k + 4]) for k in range(3))
    assert not np.array_equal(changed[3], changed[7])
    assert [len(columns_of) for columns_of, _ in plan] == [10, 10, 10, 10, 12, 8, 10, 10] * 2


@pytest.mark.parametrize("n", [2, 3, 5])
def test_no_pair_of_a_short_chain_is_without_condition(n):
    assert all(len(changed) and len(kept) for changed, kept in plan_couplings(np.arange(n), 12, seed=0))


def test_two_pairs_let_torsions_see_the_next_ones():
    variables = chain(6)
    backbone = np.flatnonzero(variables.backbone)
    halves = [np.isin(backbone, changed) for changed, _ in plan_couplings(backbone, 4, seed=0)[::2]]
    places = np.flatnonzero(np.array(variables.periodic)[backbone])
    assert all(any(half[a] != half[b] for half in halves) for a, b in pairwise(places))


def test_backbone_couplings_never_see_side_chains_and_keep_the_places_of_tokens():
    variables = chain(3)
    made, v, backbone = core(variables), draw(variables, 5), torch.from_numpy(variables.backbone)
    other = torch.where(backbone, v, torch.rand(v.shape).double())
    made.couplings, every = made.couplings[: TINY.backbone], made.couplings
    a, b = made.to_base(v)[0], made.to_base(other)[0]
    assert torch.equal(a[:, backbone], b[:, backbone])
    assert torch.equal(b[:, ~backbone], other[:, ~backbone])
    assert float((a - v)[:, backbone].abs().mean()) > 0.02
    made.couplings = every
    a, b = made.to_base(v)[0], made.to_base(other)[0]
    assert float((a - b)[:, backbone].abs().max()) > 1e-3
    # The first backbone token after a side chain of two is the ninth of all, though the seventh of the channel.
    buckets = made.couplings[0].get_submodule("conditioner.attention").get_buffer("buckets")
    assert int(buckets[0, 3]) == 16 + 8


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
@pytest.mark.parametrize("config", [replace(TINY, dropout=0.3, base="von-mises"), MLP])
def test_density_of_samples_is_that_of_their_path(config, dtype, tolerance):
    variables = chain(3)
    made = core(variables, config, scale=0.2).to(dtype)
    v, log_q = made.sample(200, torch.Generator().manual_seed(0))
    assert v.dtype == log_q.dtype == dtype
    periodic = torch.from_numpy(variables.periodic)
    assert bool(((v >= 0.0) & (v < 1.0))[:, periodic].all())
    assert float((made.log_prob(v) - log_q).abs().max()) < tolerance
    again, _ = made.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(v, again)


def test_dropout_acts_on_densities_in_training_only():
    variables = chain(2)
    made, v = core(variables, replace(TINY, dropout=0.3)), draw(variables, 10)
    assert torch.equal(made.log_prob(v), made.log_prob(v))
    made.train()
    assert float((made.log_prob(v) - made.log_prob(v)).abs().max()) > 1e-3
    z = made.eval().to_base(v)[0]
    assert torch.allclose(made.train().from_base(z)[0], v, atol=1e-9)


def test_rows_of_a_batch_do_not_see_each_other():
    variables = chain(2)
    made, v = core(variables), draw(variables, 8)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    assert torch.allclose(made.log_prob(v)[order], made.log_prob(v[order]), atol=1e-10)
    assert torch.allclose(made.log_prob(v[:1]), made.log_prob(v)[:1], atol=1e-10)


@pytest.mark.parametrize("base", ["uniform", "von-mises"])
@pytest.mark.parametrize("conditioner", ["gated-attention", "mlp"])
def test_flows_of_one_and_two_variables_integrate_to_one(base, conditioner):
    config = replace(TINY if conditioner == "gated-attention" else MLP, base=base)
    turns, line = (torch.arange(200).double() + 0.5) / 200, 24.0 * (torch.arange(500).double() + 0.5) / 500 - 12.0
    for kind, grid, length in (("phi", turns, 1.0), ("angle", line, 24.0)):
        alone = Tokens((kind,), np.array([0]), ("GLY",), np.array([True]))
        density = torch.exp(core(alone, config, scale=0.15).log_prob(grid[:, None]))
        assert float(density.std()) > 0.05
        assert length * float(density.mean()) == pytest.approx(1.0, abs=2e-3)
    both = Tokens(("phi", "angle"), np.array([0, 0]), ("GLY", "GLY"), np.array([True, True]))
    density = torch.exp(core(both, config, scale=0.15).log_prob(torch.cartesian_prod(turns, line)))
    assert 24.0 * float(density.mean()) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("concentration", [0.0, 1e-7, 1e-3, 0.7, 30.0, 5000.0])
def test_von_mises_base(concentration):
    kappa = torch.tensor([concentration], dtype=torch.float64)
    base = ProductBase(torch.tensor([True]), torch.tensor([0.3]), kappa).double()
    grid = (torch.arange(20_000).double()[:, None] + 0.5) / 20_000
    density = torch.exp(base.log_prob(grid))
    assert float(density.mean()) == pytest.approx(1.0, abs=1e-9)
    if concentration < 1e-5:
        assert float((density - 1.0).abs().max()) < 1e-6
    drawn = base.sample(20_000, torch.Generator().manual_seed(0))
    assert bool(((drawn >= 0.0) & (drawn < 1.0)).all())
    for k in (1, 2):
        wave = torch.cos(2.0 * math.pi * k * (grid - 0.3))[:, 0]
        exact, spread = (density * wave).mean(), (density * wave.square()).mean()
        error = torch.sqrt((spread - exact**2).clamp_min(1e-12) / 20_000)
        assert abs(float(torch.cos(2.0 * math.pi * k * (drawn - 0.3)).mean() - exact)) < 4.0 * float(error)
    side = torch.sin(2.0 * math.pi * (drawn - 0.3)).sign().mean()
    assert abs(float(side)) < 4.0 / math.sqrt(20_000)


def test_the_scale_of_the_base_is_right():
    base = ProductBase(torch.tensor([False, True]), torch.zeros(2), torch.zeros(2)).double()
    z = torch.tensor([[0.0, 0.4], [1.0, 0.9]], dtype=torch.float64)
    assert torch.allclose(base.log_prob(z), -0.5 * math.log(2.0 * math.pi) - torch.tensor([0.0, 0.5]).double())


def test_von_mises_fit():
    true = torch.tensor([0.0, 0.3, 4.0, 200.0], dtype=torch.float64)
    centre = torch.tensor([0.5, 0.1, 0.95, 0.4], dtype=torch.float64)
    base = ProductBase(torch.ones(4, dtype=torch.bool), centre, true).double()
    turns = base.sample(40_000, torch.Generator().manual_seed(0))
    found, kappa = fit_von_mises(turns)
    assert torch.allclose(kappa, true, rtol=0.03, atol=0.03)
    shifts = torch.remainder(found - centre + 0.5, 1.0) - 0.5
    assert float(shifts[1:].abs().max()) < 0.02
    # Leaving out half of the circle by weights moves the centre.
    weights = torch.where(turns[:, 0] < 0.5, 0.0, -torch.inf)
    assert float(fit_von_mises(turns, weights)[0][0]) == pytest.approx(0.25, abs=0.01)
    assert float(fit_von_mises(torch.full((5, 1), 0.2))[1]) <= 1e4


@pytest.mark.parametrize("depth", [1, 2])
def test_the_baseline_has_as_many_parameters(depth):
    variables = chain(2)
    split = replace(PRESETS["small"], head="per_variable")
    target = sum(p.numel() for p in SplitCore(variables, statistics(variables), split).parameters())
    matched = match_parameters(replace(PRESETS["nsf"], depth=depth), variables, target)
    baseline = SplitCore(variables, statistics(variables), matched)
    assert matched.hidden > 1
    assert abs(sum(p.numel() for p in baseline.parameters()) - target) <= 0.05 * target
    assert len(baseline.couplings) == 58
    for layer in baseline.couplings:
        assert isinstance(layer, TokenCoupling)
        assert len(layer.changed) + len(layer.kept) == variables.n


def test_targets_out_of_reach_are_refused():
    variables = chain(1)
    with pytest.raises(InputError, match="a width of 1 gives"):
        match_parameters(MLP, variables, 10)
    with pytest.raises(InputError, match="give a configuration with mlp"):
        match_parameters(TINY, variables, 10_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"full": 3},
        {"backbone": -2},
        {"bins": 1},
        {"key": 5},
        {"positions": ("rotary", "learned")},
        {"positions": "t5x"},
        {"attention": "cosine"},
        {"dropout": 1.0},
        {"bound": math.inf},
        {"conditioner": "mlp"},
        {"width": 8.0},
    ],
)
def test_bad_sizes_and_names_are_refused(changes):
    with pytest.raises(
        InputError, match=f"split flow: {'backbone' if 'conditioner' in changes else next(iter(changes))}: got"
    ):
        SplitConfig(**changes)


def test_statistics_of_other_variables_are_refused():
    with pytest.raises(InputError, match="give one number per 16"):
        SplitCore(chain(2), statistics(chain(1)), TINY)
