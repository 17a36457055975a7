import math
from functools import cache

import pytest
import torch
from coupled_springs import STIFF, CoupledSprings
from small_flows import CHAIN
from test_spline import Springs
from torch import Tensor

from gibbsian.chem.library import built_in
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.models.completion import Completion, FlowCompletion, GaussianCompletion, complete, completed_log_prob
from gibbsian.models.completion_fit import harmonic, independent, linear_gaussian


def constant(springs: CoupledSprings) -> GaussianCompletion:
    """Independent Gaussians of the right stiffness about a constant mean."""
    width = torch.tensor([0.1, STIFF**-0.5, *[0.003] * 4])
    return independent(springs.coordinates, springs.c0, width)


@cache
def fitted() -> GaussianCompletion:
    springs = CoupledSprings()
    return linear_gaussian(springs.coordinates, *springs.sample(4000))


def flow() -> FlowCompletion:
    made = FlowCompletion(fitted(), bins=4, hidden=8, depth=1)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=g)
    return made


def cut() -> GaussianCompletion:
    """Correlated and so wide that a good part lies beyond every end."""
    springs = CoupledSprings()
    factor = torch.diag(torch.tensor([1.0, 0.8, 0.15, 0.15, 0.15, 0.15])) + 0.05 * torch.ones(6, 6).tril(-1)
    return GaussianCompletion(springs.coordinates, springs.c0, 0.1 * torch.ones(6, 7), factor)


MADE = {"constant": lambda: constant(CoupledSprings()), "linear": fitted, "flow": flow, "cut": cut}


def log_mean(log_w: Tensor) -> tuple[float, float]:
    """Log of the mean weight and its standard error."""
    top = log_w.max()
    w = torch.exp(log_w - top)
    return float(w.mean().log() + top), float(w.std() / w.mean()) / math.sqrt(len(w))


def ess(log_w: Tensor) -> float:
    w = torch.softmax(log_w, 0)
    return 1.0 / float(w.square().sum()) / len(w)


@pytest.mark.parametrize("name", MADE)
def test_sample_and_log_prob_agree_and_stay_in_the_domain(name):
    completion = MADE[name]().requires_grad_(False)
    assert isinstance(completion, Completion)
    y, _ = CoupledSprings().propose(2000)
    c, log_q = completion.sample(y, torch.Generator().manual_seed(0))
    again, _ = completion.sample(y, torch.Generator().manual_seed(0))
    assert torch.equal(c, again)
    assert torch.allclose(completion.log_prob(c, y), log_q, atol=1e-9)
    assert bool(torch.isfinite(log_q).all())
    assert float(c[:, 2:].min()) > 0.0
    assert 0.0 < float(c[:, 1].min()) <= float(c[:, 1].max()) < math.pi
    outside = c.clone()
    outside[:, 0] = 2.1 + math.pi  # the other hand
    assert bool((completion.log_prob(outside, y) == -torch.inf).all())


@pytest.mark.parametrize("name", MADE)
def test_densities_are_normalised_over_the_domain(name):
    """Integral of q(c | y) by samples of a density that covers the domain."""
    completion = MADE[name]()
    n, g = 30_000, torch.Generator().manual_seed(1)
    y = CoupledSprings().propose(1)[0].expand(n, -1)
    with torch.no_grad():
        some, _ = completion.sample(y[:2000], g)
        base = completion.base if isinstance(completion, FlowCompletion) else completion
        wide = independent(
            CoupledSprings().coordinates, torch.cat([base.centre[:1], some.mean(0)[1:]]), 1.4 * some.std(0)
        )
        c, log_wide = wide.sample(y, g)
        value, error = log_mean(completion.log_prob(c, y) - log_wide)
    assert error < 0.02
    assert abs(value) < 4 * error


def test_cut_variables_have_the_law_of_cut_normals():
    """One at a time, the width of the draws is that of the density on a grid."""
    springs = CoupledSprings()
    completion = independent(springs.coordinates, springs.c0, torch.tensor([1.5, 1.2, 0.2, 0.1, 0.003, 0.003]))
    y = springs.propose(1)[0].expand(20_000, -1)
    c, _ = completion.sample(y, torch.Generator().manual_seed(3))
    for k, (low, high) in enumerate([(2.1 - math.pi / 3, 2.1 + math.pi / 3), (0.0, math.pi), (0.0, 2.0)]):
        grid = torch.linspace(low, high, 4001, dtype=torch.float64)[1:-1]
        points = springs.c0.repeat(len(grid), 1)
        points[:, k] = grid
        density = torch.exp(completion.log_prob(points, y[: len(grid)]))
        density = density / torch.trapezoid(density, grid)
        mean = float(torch.trapezoid(density * grid, grid))
        width = math.sqrt(float(torch.trapezoid(density * (grid - mean).square(), grid)))
        drawn = torch.remainder(c[:, k], 2.0 * math.pi)
        assert abs(float(drawn.mean()) - mean) < 0.03 * width
        assert abs(float(drawn.std()) - width) < 0.03 * width


@pytest.mark.parametrize("name", ["constant", "linear", "flow"])
def test_completed_weights_give_the_unconstrained_log_z_and_mean(name):
    springs, completion = CoupledSprings(), MADE[name]()
    y, log_q = springs.propose(60_000, seed=5)
    with torch.no_grad():
        x, log_q = complete(springs.coordinates, completion, y, log_q, torch.Generator().manual_seed(6))
    log_w = -springs.u(x) - log_q
    value, error = log_mean(log_w)
    assert error < {"constant": 0.02, "linear": 0.006, "flow": 0.02}[name]
    assert abs(value - springs.log_z()) < 4 * error
    grid, density = springs.marginal()
    expected = float(torch.trapezoid(grid * density, grid) / torch.trapezoid(density, grid))
    assert abs(float(torch.softmax(log_w, 0) @ y[:, 0]) - expected) < 0.01


def test_the_mean_of_frozen_coordinates_must_follow_the_free_ones():
    springs = CoupledSprings()
    found = []
    for completion in (constant(springs), fitted()):
        y, log_q = springs.propose(20_000, seed=7)
        x, log_q = complete(springs.coordinates, completion, y, log_q, torch.Generator().manual_seed(8))
        found.append(ess(-springs.u(x) - log_q))
    assert found[0] < 0.5 < 0.85 < found[1]


@pytest.mark.parametrize("kind", ["independent", "linear"])
def test_log_z_of_the_spring_molecule(kind):
    springs, coordinates = Springs(), ReducedCoordinates(CHAIN)
    x = springs.sample(3000)
    if kind == "linear":
        completion = linear_gaussian(coordinates, x)
    else:
        completion = independent(coordinates, coordinates.mean_frozen(x), torch.tensor([0.1, 0.1, *[0.01] * 4]))
    n, g = 40_000, torch.Generator().manual_seed(1)
    angles = 1.9 + 0.1 * torch.randn(n, 2, generator=g, dtype=torch.float64)
    turn = 2 * math.pi * torch.rand(n, 1, generator=g, dtype=torch.float64)
    log_q = torch.distributions.Normal(1.9, 0.1).log_prob(angles).sum(-1) - math.log(2 * math.pi)
    x, log_q = complete(coordinates, completion, torch.cat([angles, turn], -1), log_q, g)
    value, error = log_mean(-springs.u(x) - log_q)
    assert error < 0.01
    assert abs(value - springs.log_z()) < 4 * error


def test_density_of_conformations_is_that_of_the_draws_in_any_pose():
    springs = CoupledSprings()
    y, log_q = springs.propose(50)
    x, density = complete(springs.coordinates, fitted(), y, log_q, torch.Generator().manual_seed(0))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    again, rest = completed_log_prob(springs.coordinates, fitted(), x @ turn + 2.0)
    assert torch.allclose(again[:, :2], y[:, :2], atol=1e-9)
    assert torch.allclose(rest + log_q, density, atol=1e-6)


def test_free_angles_out_of_their_range_lead_nowhere():
    springs = CoupledSprings()
    y, log_q = springs.propose(3)
    y[1, 0] = -0.1
    x, density = complete(springs.coordinates, fitted(), y, log_q, torch.Generator().manual_seed(0))
    assert x.isfinite().all(-1).all(-1).tolist() == density.isfinite().tolist() == [True, False, True]


def test_whitened_variables_come_back_also_from_cut_intervals():
    completion, (y, _) = cut(), CoupledSprings().propose(500)
    white = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = completion.unwhiten(white, y)
    back, log_det = completion.whiten(c, y)
    assert torch.allclose(back, white, atol=1e-8)
    normal = (-0.5 * white.square() - 0.5 * math.log(2 * math.pi)).sum(-1)
    assert torch.allclose(normal + log_det, completion.log_prob(c, y), atol=1e-8)
    one = y[:1]
    jacobian = torch.autograd.functional.jacobian(lambda v: completion.whiten(v, one)[0][0], c[:1])[:, 0]
    assert float((torch.linalg.slogdet(jacobian).logabsdet - log_det[0]).abs()) < 1e-8


def test_draws_are_differentiable_in_the_free_coordinates():
    for name in ("linear", "flow", "cut"):
        y = CoupledSprings().propose(5)[0].requires_grad_()
        c, log_q = MADE[name]().sample(y, torch.Generator().manual_seed(0))
        (grad,) = torch.autograd.grad(c.sum() + log_q.sum(), y)
        assert bool(torch.isfinite(grad).all())
        assert float(grad[:, 0].abs().min()) > 0.0


def test_a_flow_completion_begins_as_its_gaussian_and_learns_what_it_misses():
    springs = CoupledSprings()
    x, _ = springs.sample(500)
    y, c = springs.coordinates.from_x(x)
    c = c.clone()
    c[:, 1] = 1.9 + 0.3 * torch.tanh(3.0 * torch.randn(len(c), generator=torch.Generator().manual_seed(0)).double())
    base = linear_gaussian(springs.coordinates, springs.coordinates.to_x(y, c))
    made = FlowCompletion(base, bins=6, hidden=16, depth=1)
    before = base.log_prob(c, y).mean()
    assert torch.allclose(made.log_prob(c, y), base.log_prob(c, y), atol=1e-4)
    optimiser = torch.optim.Adam(made.parameters(), lr=2e-2)
    for _ in range(30):
        optimiser.zero_grad()
        (-made.log_prob(c, y).mean()).backward()
        optimiser.step()
    assert float(made.log_prob(c, y).detach().mean()) > float(before) + 0.1
    assert {"base.centre", "base.regression", "base.cholesky"} <= set(made.state_dict())


def test_force_constants_give_variance_kt_over_k():
    system = built_in("ACE-ALA-NME")
    coordinates = ReducedCoordinates(system.topology, rotors=False)
    c0 = coordinates.from_x(torch.from_numpy(system.positions).double()[None])[1][0]
    completion = harmonic(coordinates, system.parameters, c0, 300.0)
    frozen, parameters = coordinates.frozen, system.parameters
    widths = completion.cholesky.diagonal()
    assert parameters is not None
    for terms, n in ((parameters.bonds, 2), (parameters.angles, 3)):
        table = {frozenset(a): v for a, v in zip(terms.atoms.tolist(), terms.values.tolist(), strict=True)}
        rows = [k for k, kind in enumerate(frozen.kinds) if kind == ("bond" if n == 2 else "angle")]
        for k in rows:
            value, stiffness = table[frozenset(frozen.atoms[k, :n].tolist())]
            assert float(completion.centre[k]) == pytest.approx(value)
            assert float(widths[k]) == pytest.approx(math.sqrt(2.4943388 / stiffness), rel=1e-4)
    deltas = torch.from_numpy(frozen.of("delta"))
    assert 0.05 < float(widths[deltas].min()) <= float(widths[deltas].max()) < 0.31
    y, _ = coordinates.from_x(torch.from_numpy(system.positions).double()[None].repeat(4000, 1, 1))
    c, _ = completion.sample(y, torch.Generator().manual_seed(0))
    rotor = int(torch.from_numpy(frozen.of("rotor")).nonzero()[0])
    counts = torch.histc(c[:, rotor], 4, -math.pi, math.pi)
    assert float((counts - 1000).abs().max()) < 120


def test_covariance_is_banded_by_residue_where_data_are_few():
    coordinates = ReducedCoordinates(built_in("ACE-AAA-NME").topology)
    g = torch.Generator().manual_seed(0)
    x = torch.from_numpy(built_in("ACE-AAA-NME").positions).double()
    x = x + 0.002 * torch.randn(400, *x.shape, generator=g, dtype=torch.float64)
    completion = linear_gaussian(coordinates, x)
    precision = torch.linalg.inv(completion.cholesky @ completion.cholesky.T)
    residues = torch.from_numpy(coordinates.frozen.residues)
    far = (residues[:, None] - residues).abs() > 1
    scale = precision.diagonal().sqrt()
    assert float((precision / (scale[:, None] * scale))[far].abs().max()) < 1e-8
    y, c = coordinates.from_x(x)
    held_out = completion.log_prob(c, y).mean()
    plain = independent(coordinates, coordinates.mean_frozen(x), c.std(0).clamp_max(1.0)).log_prob(c, y).mean()
    assert float(held_out) > float(plain)


def test_too_few_frames_are_refused():
    springs = CoupledSprings()
    with pytest.raises(InputError, match="effective conformations for 7 coefficients"):
        linear_gaussian(springs.coordinates, springs.sample(10)[0])
