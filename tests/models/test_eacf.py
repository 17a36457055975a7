import math

import pytest
import torch
from molecules_of_springs import MOLECULES, TEMPERATURE, molecule, spread_out, springs
from torch import Tensor

from gibbsian.coords.gauge import centred, mean_free_basis, random_rotations
from gibbsian.errors import InputError
from gibbsian.models.eacf import EACF
from gibbsian.models.eacf_config import PRESETS, EacfConfig
from gibbsian.models.layers.eacf_coupling import SphericalCoupling, frame_of, from_spherical, to_spherical
from gibbsian.models.registry import load_flow
from gibbsian.sampling.forward import forward_ess
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.smc import sample_smc
from gibbsian.testing.proposal import check_normalisation
from gibbsian.testing.toys import HarmonicMolecule

SMALL = EacfConfig(layers=2, depth=1, width=16, bins=4)
WATER, METHYL = MOLECULES["water"][0], MOLECULES["methyl"][0]


def new_flow(topology=WATER, scale: float = 0.05, config: EacfConfig = SMALL, *, double: bool = False) -> EACF:
    """Random parameters in place of the identity."""
    flow = EACF.from_data(topology, spread_out(topology, 200), config=config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return flow.double() if double else flow


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("double", "tolerance"), [(False, 1e-4), (True, 1e-9)])
@pytest.mark.parametrize("topology", [WATER, METHYL], ids=["water", "methyl"])
@torch.no_grad()
def test_there_and_back(topology, double, tolerance):
    flow = new_flow(topology, double=double)
    points, offsets = centred(normal(200, topology.n_atoms, 3)), 0.5 * normal(200, topology.n_atoms, 3, seed=1)
    x, a, log_det = flow._from_base(points, offsets)
    assert float((x - points).abs().mean()) > 0.05, "the flow under test must not be the identity"
    assert float(x.mean(1).abs().max()) < 1e-12
    there, off, back = flow._to_base(x, a)
    assert float((there - points).abs().max()) < tolerance
    assert float((off - offsets).abs().max()) < tolerance
    assert float((log_det + back).abs().max()) < 10 * tolerance


def test_log_determinant_against_autograd():
    flow, basis = new_flow(double=True), mean_free_basis(3)

    def moved(values: Tensor) -> Tensor:
        points, offsets = basis.T @ values[:6].reshape(2, 3), values[6:].reshape(3, 3)
        x, a, _ = flow._from_base(points[None], offsets[None])
        return torch.cat([(basis @ x[0]).reshape(-1), (a - x)[0].reshape(-1)])

    for seed in range(3):
        values = normal(15, seed=seed)
        jacobian = torch.autograd.functional.jacobian(moved, values)
        points, offsets = basis.T @ values[:6].reshape(2, 3), values[6:].reshape(3, 3)
        log_det = float(flow._from_base(points[None], offsets[None])[2].detach())
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(log_det, abs=1e-8)
        assert abs(log_det) > 1e-3


@torch.no_grad()
def test_density_of_samples_is_found_again_and_poses_do_not_matter():
    flow = new_flow(METHYL, double=True)
    x, log_q, noise = flow._generate(50, torch.Generator().manual_seed(3))
    assert torch.allclose(flow.log_joint(x, noise), log_q, atol=1e-7)
    turn = random_rotations(50, torch.Generator().manual_seed(1)).transpose(1, 2)
    shift = normal(50, 1, 3, seed=4)
    assert torch.allclose(flow.log_joint(x @ turn + shift, noise @ turn), log_q, atol=1e-7)
    mirror = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert not torch.allclose(flow.log_joint(x * mirror, noise * mirror), log_q, atol=0.1), "hands are told apart"


@torch.no_grad()
def test_atoms_of_a_class_are_exchangeable():
    flow = new_flow(METHYL, double=True)
    x, log_q, noise = flow._generate(50, torch.Generator().manual_seed(3))
    for order, equal in (([0, 1, 4, 2, 3], True), ([0, 1, 3, 2, 4], True), ([1, 0, 2, 3, 4], False)):
        found = flow.log_joint(x[:, order], noise[:, order])
        assert torch.allclose(found, log_q, atol=1e-7) == equal


@torch.no_grad()
def test_a_new_flow_is_the_normal_distribution():
    x = spread_out(METHYL, 300)
    flow = EACF.from_data(METHYL, x, config=SMALL)
    z = x / flow.scale
    expected = -0.5 * z.square().sum((1, 2)) - 6 * math.log(2 * math.pi) - 12 * math.log(flow.scale)
    assert torch.allclose(flow.log_prob(x), expected, atol=1e-4)
    assert torch.allclose(flow.objective(x, torch.Generator()), -expected, atol=1e-4)


@pytest.mark.physics
@torch.no_grad()
def test_joint_weights_are_exact():
    flow = new_flow(scale=0.01)
    check_normalisation(flow, springs(WATER), HarmonicMolecule(3).log_z(TEMPERATURE), n=6000)


@torch.no_grad()
def test_the_mean_over_auxiliary_atoms_is_the_density():
    """Averages of q(x, a) / pi(a | x) over few and many draws agree; that of the logarithm is too small."""
    flow = new_flow(scale=0.005, double=True)
    x = flow.sample(4, torch.Generator().manual_seed(0))[0]
    many, few = 2000, 20
    logs = flow.log_joint(x.repeat_interleave(many, 0), normal(4 * many, 3, 3, seed=5)).reshape(4, many)
    log_q = torch.logsumexp(logs, 1) - math.log(many)
    spread = (logs - log_q[:, None]).exp().std(1)
    assert bool((spread < 3).all())
    other = flow.log_joint(x.repeat_interleave(many, 0), normal(4 * many, 3, 3, seed=6)).reshape(4, many)
    again = torch.logsumexp(other, 1) - math.log(many)
    assert bool(((again - log_q).abs() < 5 * math.sqrt(2 / many) * spread).all())
    assert bool((logs.mean(1) < log_q).all()), "each single draw is a bound from below"
    estimates = torch.logsumexp(logs.reshape(4, -1, few), 2) - math.log(few)
    assert bool((estimates.mean(1) < log_q).all())
    assert bool((estimates.mean(1) > logs.mean(1)).all())
    assert bool(((flow.log_prob(x) - log_q).abs() < 5 * spread / math.sqrt(few)).all())


def test_gradient_of_the_estimate_against_differences():
    flow = new_flow(double=True)
    x = spread_out(WATER, 5)
    log_q, grad = flow.log_prob_and_grad(x)
    direction, step = normal(5, 3, 3), 1e-6
    with torch.no_grad():
        slope = (flow.log_prob(x + step * direction) - flow.log_prob(x - step * direction)) / (2 * step)
        assert torch.allclose(log_q, flow.log_prob(x))
    assert torch.allclose((grad * direction).sum((1, 2)), slope, rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_samplers_know_what_the_density_is():
    flow, target = new_flow(scale=0.03), springs(WATER)
    common = {"topology": WATER, "temperature": TEMPERATURE}
    joint = sample_snis(flow, target, 50, chunk=50, **common)
    assert joint.provenance["density"] == "joint"
    assert joint.provenance["exact"]
    average = sample_snis(
        new_flow(scale=0.03, config=EacfConfig(2, 1, 16, 4, weights="average")), target, 50, chunk=50, **common
    )
    assert average.provenance["density"] == "estimate"
    assert not average.provenance["exact"]
    assert (average.positions == joint.positions).all()
    assert forward_ess(flow, target, joint).n == 50
    with pytest.raises(InputError, match="EACF knows the density of a conformation only together"):
        sample_smc(flow, target, 20, **common)


def test_it_learns_and_what_it_learns_is_kept(tmp_path):
    """A chain of three atoms with stiff bonds: far from the normal distribution that it starts from."""
    chain = molecule("COH", [(0, 1), (0, 2)])
    noise = normal(2000, 2, seed=7)
    length, angle = 0.1 + 0.005 * noise[:, 0], 1.9 + 0.1 * noise[:, 1]
    x = torch.zeros(2000, 3, 3, dtype=torch.float64)
    x[:, 1, 0] = 0.12
    x[:, 2, 0], x[:, 2, 1] = length * torch.cos(angle), length * torch.sin(angle)
    flow = EACF.from_data(chain, x, config=SMALL)
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = float(flow.objective(x[:500], generator).mean())
    for _ in range(30):
        loss = flow.objective(x[torch.randint(0, 2000, (128,), generator=generator)], generator).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        after = float(flow.objective(x[:500], generator).mean())
    assert after < before - 1.0
    flow.save(tmp_path / "flow.safetensors")
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert isinstance(loaded, EACF)
    a, log_a = flow.sample(20, torch.Generator().manual_seed(3))
    b, log_b = loaded.sample(20, torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
    assert torch.equal(log_a, log_b)


def test_samples_are_differentiable_for_reverse_kl():
    flow = new_flow()
    x, log_q = flow.rsample(3, torch.Generator().manual_seed(0))
    (springs(WATER).u(x) + log_q).mean().backward()
    assert all(parameter.grad is not None for parameter in flow.couplings[0].network.out.parameters())  # type: ignore[union-attr]


def test_parts_of_the_coupling():
    p = normal(500, 3)
    u, before = to_spherical(p)
    back, after = from_spherical(u)
    assert bool(((u >= 0) & (u <= 1)).all())
    assert torch.allclose(back, p, atol=1e-12)
    assert torch.allclose(before, after, atol=1e-9)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: from_spherical(v)[0]))(u)
    assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, after, atol=1e-9)
    frame = frame_of(normal(50, 3, seed=1), normal(50, 3, seed=2))
    assert torch.allclose(frame @ frame.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(frame), torch.ones(50, dtype=torch.float64))
    coupling = SphericalCoupling(torch.arange(4), 8, 1, 4.0, 4)
    moved, log_det = coupling(normal(9, 4, 3), normal(9, 4, 3, seed=3))
    assert torch.allclose(moved, normal(9, 4, 3), atol=1e-6)
    assert float(log_det.detach().abs().max()) < 1e-5


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"bins": 1}, {"noise": 0.0}, {"weights": "best"}], ids=str)
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="eacf"):
        EacfConfig(**wrong)
    with pytest.raises(InputError, match="2 atoms"):
        EACF(molecule("OH", [(0, 1)]), torch.tensor(0.1), SMALL)
    assert PRESETS["eacf"].config.layers == 20
