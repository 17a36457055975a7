import math
from dataclasses import replace

import pytest
import torch
from small_flows import CHAIN

from gibbsian.coords.internal import InternalCoordinates, mean_free_constant, wrap
from gibbsian.errors import InputError
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.models.standardise import Standardise, fit_statistics
from gibbsian.testing.proposal import check_normalisation, check_proposal

CONFIG = SplineConfig(couplings=(4, 2, 2), bins=4, hidden=16)


class Springs:
    """Harmonic bonds, angles and delta, free proper torsion; log Z known up to boundary terms of size exp(-100)."""

    n_atoms = 5
    stiff = 1.0 / 0.01**2, 1.0 / 0.1**2, 1.0 / 0.1**2

    def __init__(self) -> None:
        self.coordinates = InternalCoordinates(CHAIN)
        self.delta = self.coordinates.zmatrix.kinds.index("delta")

    def u(self, x):
        y, _ = self.coordinates.forward(x)
        bond, angle, delta = self.stiff
        energy = 0.5 * bond * (y.bonds - 0.15).square().sum(-1) + 0.5 * angle * (y.angles - 1.9).square().sum(-1)
        free = torch.cos(y.torsions[:, 1 - self.delta])
        return energy + 0.5 * delta * wrap(y.torsions[:, self.delta] - 2.1).square() + free

    def u_and_grad(self, x):
        raise NotImplementedError

    def log_z(self) -> float:
        """Exact: Gaussian integrals with b^2 and sin a, a Bessel function, and the constant of the measure."""
        bond, angle, delta = self.stiff
        one_bond = math.sqrt(2 * math.pi / bond) * (0.15**2 + 1 / bond)
        one_angle = math.sqrt(2 * math.pi / angle) * math.sin(1.9) * math.exp(-0.5 / angle)
        total = 4 * math.log(one_bond) + 3 * math.log(one_angle) + 0.5 * math.log(2 * math.pi / delta)
        total += math.log(2 * math.pi) + float(torch.special.i0e(torch.tensor(1.0).double()).log()) + 1.0
        return total + mean_free_constant(5)

    def sample(self, n: int, seed: int = 0):
        """Approximate samples (without the Jacobian), good enough to take statistics from."""
        g = torch.Generator().manual_seed(seed)
        normal = [torch.randn(n, k, generator=g, dtype=torch.float64) for k in (4, 3, 2)]
        torsions = 2.1 + 0.1 * normal[2]
        torsions[:, 1 - self.delta] = 6.28 * torch.rand(n, generator=g, dtype=torch.float64)
        y = type(self.coordinates.forward(torch.randn(1, 5, 3).double())[0])(
            0.15 + 0.01 * normal[0], 1.9 + 0.1 * normal[1], wrap(torsions)
        )
        return self.coordinates.inverse(y)[0]


def shaken(flow: SplineFlow, scale: float = 0.05) -> SplineFlow:
    """Random parameters in place of the identity."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=g)
    return flow


@pytest.fixture(scope="module", params=["coupling", "autoregressive"])
def flow(request) -> SplineFlow:
    config = replace(CONFIG, layers=request.param)
    return shaken(SplineFlow.from_data(CHAIN, Springs().sample(2000), config=config))


def test_conformance(flow):
    check_proposal(flow)


def test_paths_agree_to_1e_9_in_float64(flow):
    double = SplineFlow(CHAIN, flow.standardise.statistics, flow.config).double()
    double.load_state_dict(flow.state_dict())
    x, log_q = double.rsample(500, torch.Generator().manual_seed(0))
    assert float((double.log_prob(x) - log_q).detach().abs().max()) < 1e-9


@pytest.mark.parametrize("scale", [0.0, 0.05])
def test_log_z_of_a_spring_molecule_is_exact_with_all_constants(scale):
    springs = Springs()
    made = shaken(SplineFlow.from_data(CHAIN, springs.sample(2000), config=CONFIG), scale)
    check_normalisation(made, springs, springs.log_z(), n=40_000)


def test_pose_does_not_matter_and_the_other_hand_has_no_density(flow):
    x, log_q = flow.sample(50, torch.Generator().manual_seed(1))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    with torch.no_grad():
        assert float((flow.log_prob(x @ turn + 3.0) - log_q).abs().max()) < 1e-3
        assert bool((flow.log_prob(x * torch.tensor([1.0, 1.0, -1.0])) == -torch.inf).all())
    assert float(x.mean(1).abs().max()) < 1e-12


def test_log_determinant_of_the_whole_flow_against_autograd(flow):
    double = SplineFlow(CHAIN, flow.standardise.statistics, flow.config).double()
    double.load_state_dict(flow.state_dict())
    sizes = double._sizes

    def base(v):
        torsions = v[:, : sizes[0] + sizes[1]]
        angles, bonds = v[:, sum(sizes[:2]) : sum(sizes[:3])], v[:, sum(sizes[:3]) :]
        context = double._context(torsions)
        parts = [
            double.torsions(torsions, torsions[:, :0])[0],
            double.angles(angles, context)[0],
            double.bonds(bonds, torch.cat([context, angles], -1))[0],
        ]
        return torch.cat(parts, -1)

    v = 0.5 * torch.rand(4, sum(sizes), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda u: base(u).sum(0), v).movedim(1, 0)
    z = base(v)
    normal = -0.5 * (z[:, sizes[0] :].square() + math.log(2 * math.pi)).sum(-1)
    expected = torch.linalg.slogdet(jacobian).logabsdet + normal
    assert torch.allclose(double._log_q(v[:, : sizes[0]], v[:, sizes[0] :]), expected, atol=1e-9)


def test_save_and_load_give_the_same_bits(flow, tmp_path):
    flow.save(tmp_path / "flow.safetensors")
    loaded = SplineFlow.load(tmp_path / "flow.safetensors")
    a, log_a = flow.sample(20, torch.Generator().manual_seed(3))
    b, log_b = loaded.sample(20, torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
    assert torch.equal(log_a, log_b)
    (tmp_path / "flow.safetensors").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not readable"):
        SplineFlow.load(tmp_path / "flow.safetensors")


def test_standardised_data_are_white_and_come_back():
    springs = Springs()
    x = springs.sample(3000)
    statistics = fit_statistics(springs.coordinates, x)
    standardise = Standardise(springs.coordinates, statistics)
    turns, z, log_det = standardise.forward(x)
    assert torch.allclose(torch.cov(z.T), torch.eye(z.shape[1], dtype=z.dtype), atol=0.01)
    back, log_volume, inside = standardise.inverse(turns, z)
    assert bool(inside.all())
    assert torch.allclose(log_volume, -log_det, atol=1e-9)
    assert torch.allclose(torch.cdist(back, back), torch.cdist(x, x), atol=1e-10)


def test_too_few_frames_are_refused():
    with pytest.raises(InputError, match="effective conformations"):
        SplineFlow.from_data(CHAIN, Springs().sample(10))


def test_odd_number_of_couplings_is_refused():
    with pytest.raises(InputError, match="pairs"):
        SplineFlow.from_data(CHAIN, Springs().sample(100), config=SplineConfig(couplings=(3, 2, 2)))
