import math

import pytest
import torch
from small_flows import CHAIN
from test_spline import CONFIG, Springs, shaken

from gibbsian.coords.internal import mean_free_constant
from gibbsian.errors import InputError
from gibbsian.models.base import LatentProposal
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.testing.proposal import check_normalisation, check_proposal

HEATED = SplineConfig(couplings=(4, 2, 2), bins=4, hidden=16, temperatures=(300.0, 600.0))


@pytest.fixture(scope="module")
def flow() -> SplineFlow:
    return shaken(SplineFlow.from_data(CHAIN, Springs().sample(2000), config=HEATED))


class Hot(Springs):
    """The springs at twice the temperature."""

    def u(self, x):
        return super().u(x) / 2.0

    def log_z(self) -> float:
        bond, angle, delta = (k / 2.0 for k in self.stiff)
        one_bond = math.sqrt(2 * math.pi / bond) * (0.15**2 + 1 / bond)
        one_angle = math.sqrt(2 * math.pi / angle) * math.sin(1.9) * math.exp(-0.5 / angle)
        total = 4 * math.log(one_bond) + 3 * math.log(one_angle) + 0.5 * math.log(2 * math.pi / delta)
        total += math.log(2 * math.pi) + float(torch.special.i0e(torch.tensor(0.5).double()).log()) + 0.5
        return total + mean_free_constant(5)


@pytest.mark.parametrize("temperature", [300.0, 420.0, 600.0])
def test_every_temperature_is_a_proposal(flow, temperature):
    there = flow.at(temperature)
    assert isinstance(there, LatentProposal)
    check_proposal(there)


def test_log_z_is_exact_at_both_ends(flow):
    check_normalisation(flow, Springs(), Springs().log_z(), n=20_000)
    check_normalisation(flow.at(600.0), Hot(), Hot().log_z(), n=20_000)


@pytest.mark.parametrize("temperature", [300.0, 500.0])
def test_log_determinant_of_the_whole_map_against_autograd(flow, temperature):
    double = SplineFlow(CHAIN, flow.standardise.statistics, HEATED).double()
    double.load_state_dict(flow.state_dict())
    there = double.at(temperature)
    sizes = there._sizes
    generator = torch.Generator().manual_seed(2)
    z = torch.cat([0.1 + 0.8 * torch.rand(1, sizes[0]), 0.5 * torch.randn(1, sum(sizes[1:]), generator=generator)], 1)
    z = z.double()

    def narrow(latent):
        """Internal coordinates of latent variables: the map whose Jacobian the density holds."""
        turns, real, _ = there._generate(latent[None, : sizes[0]], latent[None, sizes[0] :])
        scaled = real * torch.exp(there._log_width())
        return torch.cat([2 * math.pi * turns, scaled @ there.standardise.statistics.cholesky.T], -1)[0]

    jacobian = torch.autograd.functional.jacobian(narrow, z[0])
    normal = -0.5 * (z[0, sizes[0] :].square() + math.log(2 * math.pi)).sum()
    log_density = normal - torch.linalg.slogdet(jacobian).logabsdet
    x, log_q = there.from_latent(z)
    _, log_det = there.standardise.coordinates.forward(x)
    expected = log_density + log_det - mean_free_constant(CHAIN.n_atoms)
    assert torch.allclose(log_q, expected.detach(), atol=1e-8)


def test_one_temperature_per_conformation(flow):
    x, _ = flow.sample(6, torch.Generator().manual_seed(0))
    temperatures = torch.tensor([300.0, 600.0] * 3, dtype=torch.float64)
    with torch.no_grad():
        mixed, cold, hot = flow.at(temperatures).log_prob(x), flow.log_prob(x), flow.at(600.0).log_prob(x)
    assert torch.allclose(mixed[::2], cold[::2], atol=1e-4)
    assert torch.allclose(mixed[1::2], hot[1::2], atol=1e-4)
    assert float((cold - hot).abs().max()) > 0.1


def test_it_spreads_with_the_root_of_the_temperature():
    made = SplineFlow.from_data(CHAIN, Springs().sample(3000), config=HEATED)
    spread = []
    for temperature in (300.0, 600.0):
        x, _ = made.at(temperature).sample(4000, torch.Generator().manual_seed(0))
        spread.append(made.standardise.coordinates.forward(x)[0].bonds.std(0))
    assert torch.allclose(spread[1] / spread[0], torch.full((4,), math.sqrt(2.0)).double(), atol=0.02)


def test_going_elsewhere_leaves_the_flow_where_it_is_and_shares_its_weights(flow):
    there = flow.at(450.0)
    assert flow.temperature == 300.0
    assert there.temperature == 450.0
    assert all(a is b for a, b in zip(flow.parameters(), there.parameters(), strict=True))


def test_what_it_does_not_hold_is_refused(flow):
    for wrong in (299.0, 601.0, math.nan):
        with pytest.raises(InputError, match="holds 300 to 600 K"):
            flow.at(wrong)
    with pytest.raises(InputError, match="recipe thermal"):
        SplineFlow.from_data(CHAIN, Springs().sample(500), config=CONFIG).at(300.0)
    for pair in ((600.0, 300.0), (-1.0, 300.0), (300.0, math.inf)):
        with pytest.raises(InputError, match="positive and rising"):
            SplineConfig(temperatures=pair)


def test_files_keep_the_temperatures(flow, tmp_path):
    flow.save(tmp_path / "heated")
    loaded = SplineFlow.load(tmp_path / "heated")
    assert loaded.config == HEATED
    x, log_q = flow.at(500.0).sample(10, torch.Generator().manual_seed(1))
    y, log_p = loaded.at(500.0).sample(10, torch.Generator().manual_seed(1))
    assert torch.equal(x, y)
    assert torch.equal(log_q, log_p)

    plain = SplineFlow.from_data(CHAIN, Springs().sample(500), config=CONFIG)
    plain.save(tmp_path / "plain")
    assert SplineFlow.load(tmp_path / "plain").temperature is None
