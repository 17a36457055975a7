import math
from dataclasses import replace

import pytest
import torch
from small_flows import CHAIN, N_ATOMS, SMALL, fitted, metropolis
from torch import Tensor

from gibbsian.coords.frame import middle_frame, to_frame
from gibbsian.coords.gauge import random_rotations
from gibbsian.errors import InputError
from gibbsian.models.base import LatentProposal
from gibbsian.models.frame_gauge import FrameGauge
from gibbsian.models.layers.affine import Affine, AffineMap, bounded_affine, from_base
from gibbsian.models.layers.autoregressive import AutoregressiveBlock
from gibbsian.models.layers.causal import CausalLayer, CausalTransformer
from gibbsian.models.orders import bond_order
from gibbsian.models.registry import load_flow
from gibbsian.models.spline import SplineConfig, SplineFlow
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import PRESETS, TarFlowConfig
from gibbsian.testing.proposal import check_normalisation, check_proposal
from gibbsian.testing.toys import HarmonicMolecule
from gibbsian.units import kt

VARIANTS = {
    "soft": SMALL,
    "chi3": replace(SMALL, com="chi3"),
    "meanfree": replace(SMALL, gauge="meanfree"),
    "frame": replace(SMALL, gauge="frame"),
    "frame, triangular": replace(SMALL, gauge="frame", triangular=True, start=True),
    "bonds": replace(SMALL, gauge="frame", order="bonds", frame=(2, 1, 3)),
    "coordinates": replace(SMALL, gauge="frame", tokens="coordinate", start=True),
    "triangular": replace(SMALL, triangular=True),
    "local": replace(SMALL, gauge="local", triangular=True, start=True),
    "splines": replace(SMALL, gauge="local", map="spline", bins=5, hidden=8, start=True),
}


def conformations(n: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    ideal = torch.tensor([[0.0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [0.34, 0.15, 0.05], [0.15, 0.25, -0.05]])
    return ideal.double() + 0.01 * torch.randn(n, N_ATOMS, 3, generator=g, dtype=torch.float64)


def new_flow(config: TarFlowConfig, scale: float = 0.05) -> TarFlow:
    """Random parameters in place of the identity."""
    flow = TarFlow.from_data(CHAIN, conformations(200), config=config)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=g)
    return flow


@pytest.fixture(params=VARIANTS, scope="module")
def flow(request: pytest.FixtureRequest) -> TarFlow:
    return new_flow(VARIANTS[request.param])


def test_conformance(flow):
    check_proposal(flow, n=32)


def test_both_paths_agree(flow):
    with torch.no_grad():
        x, log_q = flow.rsample(100, torch.Generator().manual_seed(0))
        assert float((flow.log_prob(x) - log_q).abs().max()) < 1e-3
    double = TarFlow(CHAIN, flow.gauge, flow.config).double()
    double.load_state_dict(flow.state_dict())
    with torch.no_grad():
        x, log_q = double.rsample(100, torch.Generator().manual_seed(0))
        assert float((double.log_prob(x) - log_q).abs().max()) < 1e-9
        assert float(double.round_trip_error(x).max()) < 1e-12


def test_log_determinant_against_autograd(flow):
    double = TarFlow(CHAIN, flow.gauge, flow.config).double()
    double.load_state_dict(flow.state_dict())
    free = double.mask > 0

    def base(values: Tensor) -> Tensor:
        tokens = torch.zeros(free.shape, dtype=values.dtype).masked_scatter(free, values)
        return double._to_base(tokens[None])[0][0][free]

    tokens, _ = double._tokens(conformations(2, seed=1))
    _, log_det = double._to_base(tokens)
    for k in range(2):
        jacobian = torch.autograd.functional.jacobian(base, tokens[k][free])
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(float(log_det[k].detach()), abs=1e-9)


def test_a_new_flow_is_the_normal_distribution_of_its_tokens():
    new = TarFlow.from_data(CHAIN, conformations(200), config=SMALL)
    x = conformations(10)
    with torch.no_grad():
        z = x / new.gauge.tensors()["scale"]
        log_normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2))
        expected = log_normal - 15 * torch.log(new.gauge.tensors()["scale"])
        assert torch.allclose(new.log_prob(x), expected, atol=1e-4)


@pytest.mark.parametrize("gauge", ["soft", "meanfree", "frame"])
@pytest.mark.physics
def test_log_z_of_a_spring_molecule_is_the_same_in_every_gauge(gauge):
    molecule = HarmonicMolecule(n_atoms=5, k=400.0)

    class Springs:
        n_atoms = 5

        def u(self, x: Tensor) -> Tensor:
            return molecule.energy(x) / kt(300.0)

        def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

    # Data of the molecule itself, for the scale only; random weights make q imperfect.
    width = math.sqrt(kt(300.0) / (molecule.k * 5))
    data = width * torch.randn(500, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if gauge == "frame":
        # Springs of zero length reach every angle; those near a line only widen the statistics of the frame.
        body = to_frame(data, (1, 0, 2))
        data = data[body[:, 2, 1] > 0.051]
    made = TarFlow.from_data(CHAIN, data, config=replace(SMALL, gauge=gauge))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("out.weight"):
                parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    if gauge == "frame":
        made = widened(made)
    check_normalisation(made, Springs(), molecule.log_z(300.0), n=40_000)


def widened(flow: TarFlow) -> TarFlow:
    """Larger scales, so that the weights of a floppy molecule are bounded."""
    assert isinstance(flow.gauge, FrameGauge)
    axes, free = flow.gauge.axes, flow.gauge.mask[:, None, :]
    made = TarFlow(CHAIN, replace(flow.gauge, axes=torch.where(free, 1.6 * axes, axes)), flow.config)
    made.load_state_dict(flow.state_dict())
    return made


@pytest.mark.physics
def test_log_z_agrees_with_an_internal_coordinate_flow():
    """One stiff molecule, three unrelated parametrisations of its conformations."""

    class Stiff:
        n_atoms = 5
        ideal = conformations(1)[0]

        def u(self, x: Tensor) -> Tensor:
            pairs = torch.triu_indices(5, 5, 1)
            distance = torch.cdist(x.double(), x.double())[:, pairs[0], pairs[1]]
            volume = torch.linalg.det(x[:, [0, 3, 4]] - x[:, 2:3])
            wanted = torch.cdist(self.ideal, self.ideal)[pairs[0], pairs[1]]
            right = volume * torch.linalg.det(self.ideal[[0, 3, 4]] - self.ideal[2]) > 0
            return torch.where(right, 0.5 * ((distance - wanted) / 0.01).square().sum(-1), torch.inf)

        def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

    target = Stiff()
    data = metropolis(target, 4000)
    found = {}
    flows = {
        "spline": SplineFlow.from_data(CHAIN, data, config=SplineConfig(couplings=(2, 2, 2), bins=4, hidden=8)),
        "frame": fitted(data, replace(SMALL, gauge="frame")),
        "local": fitted(data, replace(SMALL, gauge="local", map="spline", bins=5, hidden=8, start=True)),
    }
    for name, made in flows.items():
        with torch.no_grad():
            x, log_q = made.sample(20_000, torch.Generator().manual_seed(0))
            w = torch.exp(made.log_gauge(x) - target.u(x) - log_q)
        found[name] = (float(w.mean()), float(w.std()) / math.sqrt(len(w)))
    a, error_a = found.pop("spline")
    assert error_a / a < 0.1, "the weights say nothing"
    for b, error_b in found.values():
        assert error_b / b < 0.1, "the weights say nothing"
        assert abs(math.log(a / b)) < 4 * math.hypot(error_a / a, error_b / b)


def test_the_frame_makes_the_density_invariant_and_keeps_hands_apart():
    made = new_flow(VARIANTS["frame"]).double()
    x = conformations(20)
    with torch.no_grad():
        log_q = made.log_prob(x)
        turned = x @ random_rotations(20, torch.Generator().manual_seed(1)).transpose(1, 2) + 3.0
        assert torch.allclose(made.log_prob(turned), log_q, rtol=0, atol=1e-9)
        assert float((made.log_prob(x * torch.tensor([1.0, 1.0, -1.0])) - log_q).abs().min()) > 0.1
        sampled, _ = made.sample(20, torch.Generator().manual_seed(2))
        assert float(sampled.mean(1).abs().max()) < 1e-12
    _, grad = made.log_prob_and_grad(x)
    assert float(grad.sum(1).abs().max()) < 1e-8, "no net force"
    torque = torch.linalg.cross(x - x.mean(1, keepdim=True), grad).sum(1)
    assert float(torque.abs().max()) < 1e-8


@pytest.mark.parametrize("start", [False, True])
def test_cached_steps_equal_the_parallel_pass(start):
    torch.manual_seed(0)
    net = CausalTransformer(width=16, depth=3, head=8).double()
    e = torch.randn(7, 6, 16, dtype=torch.float64)
    cache = net.new_cache(7, 6)
    assert cache.shape == (3, 2, 7, 2, 6, 8)
    whole = net(e)
    with torch.no_grad():
        stepped = torch.stack([net.step(e[:, k], cache, k) for k in range(6)], 1)
    assert torch.allclose(whole, stepped, atol=1e-12)
    mask = torch.ones(6, 3)
    block = AutoregressiveBlock(mask, 16, 2, 8, map=AffineMap(16, 3, 4.0, False), start=start, reverse=False).double()
    torch.nn.init.normal_(block.map.out.weight, std=0.1)
    z = torch.randn(4, 6, 3, dtype=torch.float64)
    x, _ = block.inverse(z)
    assert torch.equal(x[:, 0], z[:, 0]) != start
    with torch.no_grad():
        slow = z.clone()
        for j in range(6):  # all tokens anew for each, no cache
            e = block.embed(slow[:, :-1]) + block.position[:-1]
            e = e if block.start is None else torch.cat([block.start.expand(4, 1, -1), e], 1)
            affine = bounded_affine(block.map.out(block.transformer(e)), block.mask[6 - e.shape[1] :], 4.0)
            k = j - (6 - e.shape[1])
            if k >= 0:
                slow[:, j] = from_base(z, Affine(*(part[:, k : k + 1] for part in affine)))[:, j]
        assert torch.allclose(x, slow, atol=1e-12)
        assert torch.allclose(block(x)[0], z, atol=1e-12)


def test_attention_against_an_explicit_mask():
    torch.manual_seed(0)
    layer = CausalLayer(width=16, head=8).double()
    e = torch.randn(3, 6, 16, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm_attention(e)).view(3, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(8)
    later = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
    attended = torch.softmax(scores.masked_fill(later, -torch.inf), -1) @ v
    middle = e + layer.project(attended.transpose(1, 2).reshape(3, 6, 16))
    expected = middle + layer.mlp(layer.norm_mlp(middle))
    assert torch.allclose(layer(e), expected, atol=1e-12)


def test_two_samplers_that_take_turns_do_not_disturb_each_other():
    torch.manual_seed(0)
    net = CausalTransformer(width=16, depth=2, head=8)
    a, b = torch.randn(2, 3, 5, 16)
    caches = net.new_cache(3, 5), net.new_cache(3, 5)
    with torch.no_grad():
        turns = [(net.step(a[:, k], caches[0], k), net.step(b[:, k], caches[1], k)) for k in range(5)]
        cache = net.new_cache(3, 5)
        alone = [net.step(a[:, k], cache, k) for k in range(5)]
    assert all(torch.equal(both[0], one) for both, one in zip(turns, alone, strict=True))


@pytest.mark.parametrize("triangular", [False, True])
def test_large_output_weights_leave_samples_finite_and_invertible(triangular):
    torch.manual_seed(0)
    mask = torch.ones(66, 1) if not triangular else torch.ones(22, 3)
    for _ in range(2):
        block = AutoregressiveBlock(
            mask, 64, 2, 64, map=AffineMap(64, mask.shape[1], 4.0, triangular), start=False, reverse=False
        )
        torch.nn.init.normal_(block.map.out.weight, std=0.02)
        z = torch.randn(50, *mask.shape)
        x, _ = block.inverse(z)
        assert bool(torch.isfinite(x).all())
        assert float((block(x)[0] - z).abs().max().detach()) < 1e-4


def test_gradients_flow_only_to_the_conformations():
    made = new_flow(SMALL)
    flags = [parameter.requires_grad for parameter in made.parameters()]
    log_q, grad = made.log_prob_and_grad(conformations(5))
    assert grad.shape == (5, N_ATOMS, 3)
    assert not log_q.requires_grad
    assert all(parameter.grad is None for parameter in made.parameters())
    assert [parameter.requires_grad for parameter in made.parameters()] == flags
    with pytest.raises(InputError, match="not differentiable"):
        made.rsample(3, torch.Generator())


def test_recomputing_gives_the_same_gradients():
    plain, frugal = new_flow(SMALL), new_flow(replace(SMALL, recompute=True))
    for made in (plain, frugal):
        made.log_prob(conformations(8)).mean().backward()
    for a, b in zip(plain.parameters(), frugal.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_latent_variables_there_and_back():
    made = new_flow(VARIANTS["frame"])
    assert isinstance(made, LatentProposal)
    z = torch.randn(50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, log_q = made.from_latent(z)
    assert torch.allclose(made.to_latent(x), z, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(log_q, made.log_prob(x))
    assert made.latent_circular().tolist() == [False] * 9


def test_save_and_load_give_the_same_bits(flow, tmp_path):
    flow.save(tmp_path / "flow.safetensors")
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert isinstance(loaded, TarFlow)
    assert loaded.config == flow.config
    a, log_a = flow.sample(20, torch.Generator().manual_seed(3))
    b, log_b = loaded.sample(20, torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
    assert torch.equal(log_a, log_b)
    assert torch.equal(flow.log_gauge(a), loaded.log_gauge(a))


def test_a_fitted_centre_is_part_of_the_flow(tmp_path):
    flow = new_flow(replace(SMALL, com="fitted"))
    x, _ = flow.sample(50, torch.Generator().manual_seed(0))
    before = flow.log_gauge(x)
    assert torch.equal(before, new_flow(SMALL).log_gauge(x)), "the law of the noise until it is fitted"
    flow.fit_centre(seed=1)
    after = flow.log_gauge(x)
    assert not torch.allclose(before, after)
    flow.save(tmp_path / "flow.safetensors")
    assert torch.equal(load_flow(tmp_path / "flow.safetensors").log_gauge(x), after)
    check_proposal(flow, n=32)
    plain = new_flow(SMALL)
    plain.fit_centre(seed=1)
    assert torch.equal(plain.log_gauge(x), before)


def test_a_file_says_which_model_wrote_it(tmp_path):
    data = conformations(300)
    SplineFlow.from_data(CHAIN, data, config=SplineConfig(couplings=(2, 2, 2), hidden=8)).save(tmp_path / "a")
    assert isinstance(load_flow(tmp_path / "a"), SplineFlow)
    with pytest.raises(InputError, match="'gibbsian-tarflow-1' is needed"):
        TarFlow.load(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not readable"):
        load_flow(tmp_path / "b")


# arXiv 2502.18462: 12.71, 28.50, 64.05 and 202.4 million; here the last norm of each block adds 2 widths.
COUNTS = {
    "ACE-ALA-NME": (66, 1, 12.71e6),
    "AAA": (33, 3, 28.50e6),
    "AAAAAA": (63, 3, 64.05e6),
    "GYDPETGTWG": (138, 3, 202.4e6),
}


@pytest.mark.parametrize("name", COUNTS)
def test_presets_have_the_published_number_of_parameters(name):
    n_tokens, p, published = COUNTS[name]
    config = PRESETS[name].config
    c = config.width
    layers = config.depth * (12 * c**2 + 13 * c)
    expected = config.blocks * (layers + p * c + c + n_tokens * c + 2 * p * c + 2 * p + 2 * c)
    with torch.device("meta"):
        blocks = [
            AutoregressiveBlock(
                torch.ones(n_tokens, p),
                c,
                config.depth,
                config.head,
                map=AffineMap(c, p, 4.0, False),
                start=False,
                reverse=False,
            )
            for _ in range(config.blocks)
        ]
    found = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert found == expected
    assert found == pytest.approx(published, rel=1e-3)
    assert "2502.18462" in PRESETS[name].source


@pytest.mark.parametrize(
    "wrong", [{"width": 60}, {"blocks": 0}, {"bound": 0.0}, {"com": "none"}, {"order": "bonds", "gauge": "meanfree"}]
)
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(InputError, match="tarflow"):
        TarFlowConfig(**wrong)


def test_atoms_in_the_order_of_bonds_follow_one_that_they_are_bonded_to():
    from gibbsian.chem.library import built_in

    for name in ("ACE-ALA-NME", "chignolin"):
        topology = built_in(name).topology
        order = bond_order(topology, middle_frame(topology)[0])
        assert sorted(order) == list(range(topology.n_atoms))
        seen = {order[0]}
        for atom in order[1:]:
            assert seen & set(topology.neighbours[atom])
            seen.add(atom)
    assert bond_order(CHAIN, 2) == [2, 1, 3, 4, 0]


def test_too_few_frames_are_refused():
    with pytest.raises(InputError, match="at least 10"):
        TarFlow.from_data(CHAIN, conformations(5))
