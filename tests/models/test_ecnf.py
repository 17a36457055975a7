import math
from pathlib import Path

import pytest
import torch
from molecules_of_springs import MOLECULES, TEMPERATURE, molecule, spread_out, springs
from torch import Tensor

from gibbsian.coords.gauge import mean_free_basis, random_rotations
from gibbsian.errors import InputError
from gibbsian.models.ecnf import ECNF
from gibbsian.models.ecnf_config import PRESETS, EcnfConfig
from gibbsian.models.registry import load_flow
from gibbsian.targets.handed import Handed
from gibbsian.testing.proposal import check_normalisation, check_proposal
from gibbsian.testing.toys import HarmonicMolecule

TIGHT = EcnfConfig(depth=3, width=8, tolerance=1e-8)


def one_hand(name: str, n: int) -> Tensor:
    """Samples of the springs that have the hand of the first."""
    topology, _ = MOLECULES[name]
    x = spread_out(topology, 64 * n)
    return x[Handed(springs(topology), topology, x[0]).right(x)][:n]


def flow_of(name: str, config: EcnfConfig = TIGHT, seed: int = 0, stir: float = 0.15) -> ECNF:
    """A flow in double precision whose weights are far from those of the identity."""
    flow = ECNF.from_data(MOLECULES[name][0], one_hand(name, 100), config=config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += stir * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        for layer in flow.field.layers:
            layer.factor.weight *= 0.3 * stir
    return flow


@pytest.mark.parametrize("name", ["water", "both"])
def test_contract(name: str) -> None:
    check_proposal(flow_of(name), n=16, step=1e-4, tolerance=2e-4)


def test_log_det_of_the_flow_is_that_of_autograd() -> None:
    flow = flow_of("water")
    basis = mean_free_basis(3)
    z = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, log_q = flow.from_latent(z)
    step = 1e-4
    columns = []
    for k in range(6):
        shift = torch.zeros(6, dtype=torch.float64)
        shift[k] = step
        difference = flow.from_latent(z + shift)[0] - flow.from_latent(z - shift)[0]
        columns.append((basis @ difference).flatten(1) / (2 * step))
    log_det = torch.linalg.slogdet(torch.stack(columns, 2)).logabsdet
    assert float(log_det.std()) > 1e-3, "the flow must do something"
    expected = -0.5 * z.square().sum(1) - 3.0 * math.log(2 * math.pi) - log_det
    assert torch.allclose(log_q, expected, atol=1e-6)
    assert torch.allclose(flow.to_latent(x), z, atol=1e-6)


def test_density_does_not_see_the_pose_and_twins_but_one_hand() -> None:
    flow = flow_of("both")
    x, log_q = flow.sample(8, torch.Generator().manual_seed(3))
    moved = x @ random_rotations(8, torch.Generator().manual_seed(4)).transpose(1, 2) + 0.7
    assert torch.allclose(flow.log_prob(moved), log_q, atol=1e-6)
    turned = x[:, [0, 1, 2, 3, 4, 6, 7, 5]]
    # Springs allow geometries so flat that even this changes the hand.
    kept = flow.handedness.log_factor(turned) == flow.handedness.log_factor(x)
    assert int(kept.sum()) > 2
    assert torch.allclose(flow.log_prob(turned)[kept], log_q[kept], atol=1e-6)
    assert bool((flow.log_prob(-x) == -torch.inf).all())
    other = x[:, [0, 2, 1, 3, 4, 5, 6, 7]]
    hand = flow.handedness.log_factor(other)
    assert bool((hand == -torch.inf).all()), "an exchange of different atoms mirrors the centre"
    assert (flow.counts.n, flow.counts.mixed) == (8, 0)
    assert 0 < flow.counts.inverted < 8


def test_neighbours_change_a_density_by_no_more_than_the_tolerance() -> None:
    flow = flow_of("both", EcnfConfig(depth=3, width=8, tolerance=1e-4))
    x, log_q = flow.sample(16, torch.Generator().manual_seed(5))
    alone = torch.cat([flow.log_prob(one[None]) for one in x])
    assert float((flow.log_prob(x) - alone).abs().max()) < 2e-2
    assert float((alone - log_q).abs().max()) < 2e-2
    assert float(flow.round_trip_error(x).max()) < 1e-2
    assert flow.evaluations > 0
    broken = x.clone()
    broken[3, 0, 0] = torch.nan
    assert flow.log_prob(broken)[3] == -torch.inf
    assert bool(torch.isfinite(flow.log_prob(broken)[:3]).all())


@pytest.mark.parametrize(("name", "stir"), [("methyl", 0.0), ("water", 0.1), ("both", 0.1)])
def test_log_z_of_springs(name: str, stir: float) -> None:
    topology, copies = MOLECULES[name]
    flow = flow_of(name, EcnfConfig(depth=3, width=8), stir=stir)
    target = Handed(springs(topology), topology, one_hand(name, 1)[0])
    log_z = HarmonicMolecule(topology.n_atoms).log_z(TEMPERATURE) - math.log(copies)
    check_normalisation(flow, target, log_z, n=320, sigmas=4.0)


def test_training_lowers_the_loss_and_keeps_the_density_exact() -> None:
    topology, _ = MOLECULES["water"]
    torch.manual_seed(0)
    x = 0.03 * torch.randn(400, 3, 3, dtype=torch.float64)
    x[:, 1, 0] += 0.1
    x[:, 2, 1] += 0.1
    flow = ECNF.from_data(topology, x, config=EcnfConfig(depth=2, width=16))
    before = float(flow.objective(x, torch.Generator().manual_seed(1)).mean().detach())
    optimiser = torch.optim.AdamW(flow.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for _ in range(150):
        optimiser.zero_grad()
        flow.objective(x[torch.randint(400, (64,), generator=generator)], generator).mean().backward()
        optimiser.step()
    with torch.no_grad():
        losses = flow.objective(x, torch.Generator().manual_seed(1))
    assert losses.shape == (400,)
    assert float(losses.mean()) < 0.95 * before
    start = ECNF.from_data(topology, x, config=EcnfConfig(depth=2, width=16))
    assert float(flow.log_prob(x).mean()) > float(start.log_prob(x).mean()) + 0.1
    drawn, log_q = flow.sample(512, torch.Generator().manual_seed(4))
    # An importance average of a density that lies inside that of the flow.
    width = 0.03
    basis = mean_free_basis(3)
    centre = basis @ x.mean(0)
    log_p = -0.5 * (basis @ drawn - centre).square().sum((1, 2)) / width**2 - 3 * math.log(2 * math.pi * width**2)
    w = torch.exp(log_p - log_q)
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / math.sqrt(512)


def test_file(tmp_path: Path) -> None:
    flow = flow_of("both").float()
    flow.save(tmp_path / "flow.safetensors")
    again = load_flow(tmp_path / "flow.safetensors")
    assert isinstance(again, ECNF)
    assert again.config == flow.config
    x, log_q = flow.sample(4, torch.Generator().manual_seed(0))
    y, log_q_again = again.sample(4, torch.Generator().manual_seed(0))
    assert torch.equal(x, y)
    assert torch.equal(log_q, log_q_again)


def test_samples_are_not_differentiable() -> None:
    flow = flow_of("water")
    with pytest.raises(InputError, match="w_kl"):
        flow.rsample(2, torch.Generator())
    with torch.no_grad():
        assert flow.rsample(2, torch.Generator())[0].shape == (2, 3, 3)


def test_data_of_both_hands_are_refused() -> None:
    topology, _ = MOLECULES["stereocentre"]
    with pytest.raises(InputError, match="handedness"):
        ECNF.from_data(topology, spread_out(topology, 100))
    with pytest.raises(InputError, match="at least 10"):
        ECNF.from_data(topology, spread_out(topology, 5))


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"width": 0}, {"reach": 0.0}, {"path_noise": -1.0}, {"tolerance": 0.0}]
)
def test_wrong_sizes(wrong: dict) -> None:
    with pytest.raises(InputError, match="ecnf"):
        EcnfConfig(**wrong)


@pytest.mark.parametrize(
    ("preset", "classes", "published", "rounding"), [("ecnf++", 22, 2.317e6, 500), ("ecnf", 43, 152e3, 500)]
)
def test_published_parameter_counts(preset: str, classes: int, published: float, rounding: float) -> None:
    """The published counts include layers that nothing depends on, and features whose number is not stated.

    Without reach are the last update of the features and a read-out of them.
    """
    config = PRESETS[preset].config
    chain = molecule("C" * classes, [(i, i + 1) for i in range(classes - 1)])
    flow = ECNF(chain, torch.tensor(0.2), spread_out(chain, 1)[0], config)
    count = sum(parameter.numel() for parameter in flow.parameters())
    width = config.width
    update = (2 * width + 1) * width + (width + 1) * width
    read_out = (width + 1) * (classes + 1)
    assert abs(count + update + read_out - published) < rounding
