import math

import numpy as np
import pytest
import torch

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import middle_frame
from gibbsian.coords.gauge import mean_free_basis, random_rotations
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.models.frame_gauge import FrameGauge
from gibbsian.models.gauges import MeanFreeGauge, SoftGauge, new_gauge
from gibbsian.testing.toys import HarmonicMolecule
from gibbsian.units import kt

N_ATOMS = 5


def chain(n: int) -> Topology:
    return Topology(
        atom_names=tuple(f"C{k}" for k in range(n)),
        elements=("C",) * n,
        residue_index=np.zeros(n, dtype=np.int64),
        residue_names=("MOL",),
        residue_ids=("1",),
        bonds=np.array([[k, k + 1] for k in range(n - 1)]).reshape(-1, 2),
    )


def conformations(n: int, n_atoms: int = N_ATOMS, seed: int = 0) -> torch.Tensor:
    """A bent chain with noise, far from a line."""
    g = torch.Generator().manual_seed(seed)
    k = torch.arange(n_atoms, dtype=torch.float64)
    ideal = torch.stack([0.12 * k, 0.1 * (k % 2), 0.03 * k * (k % 3)], -1)
    return ideal + 0.01 * torch.randn(n, n_atoms, 3, generator=g, dtype=torch.float64)


def uniform(n: int) -> torch.Tensor:
    return torch.full((n,), 1.0 / n, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["soft", "meanfree", "frame", "local"])
def test_tokens_come_back_and_are_of_unit_size(kind):
    x = conformations(400)
    gauge = new_gauge(kind, chain(N_ATOMS), x, uniform(len(x)), frame=(1, 0, 2))
    moved = gauge.augment(x, torch.Generator().manual_seed(1))
    tokens, log_det = gauge.forward(moved)
    back, log_j = gauge.inverse(tokens)
    assert torch.allclose(torch.cdist(back, back), torch.cdist(x, x), atol=1e-12)
    assert torch.allclose(log_det, -log_j, atol=1e-10)
    assert bool((tokens[:, ~gauge.mask] == 0).all())
    size = 1.0 + 1.0 / N_ATOMS if kind == "soft" else 1.0
    assert float(tokens[:, gauge.mask].square().mean()) == pytest.approx(size, abs=0.05)


def volume_of_shape(gauge: FrameGauge, tokens: torch.Tensor) -> float:
    """Log |det| of tokens to shapes, with an orthonormal centre and the turn of the whole molecule as further columns.

    A turn has the volume 8 pi^2; the three translations are the orthonormal centre divided by sqrt(n).
    """
    free = gauge.mask

    def place(values: torch.Tensor) -> torch.Tensor:
        filled = torch.zeros(free.shape, dtype=values.dtype).masked_scatter(free, values)
        return gauge.inverse(filled[None])[0][0].reshape(-1)

    jacobian = torch.autograd.functional.jacobian(place, tokens[free])
    x = place(tokens[free]).reshape(-1, 3)
    axes = torch.eye(3, dtype=x.dtype)
    turns = torch.stack([torch.linalg.cross(axis.expand_as(x), x).reshape(-1) for axis in axes], 1)
    shifts = axes.repeat(len(x), 1) / math.sqrt(len(x))
    whole = torch.cat([jacobian, turns, shifts], 1)
    return float(torch.linalg.slogdet(whole).logabsdet) + math.log(8 * math.pi**2)


@pytest.mark.parametrize("n_atoms", [3, 5])
def test_volume_element_of_the_frame_against_autograd(n_atoms):
    x = conformations(50, n_atoms)
    gauge = FrameGauge.from_data(chain(n_atoms), x, uniform(50), (1, 2, 0))
    tokens, log_det = gauge.forward(x)
    for k in range(3):
        assert volume_of_shape(gauge, tokens[k]) == pytest.approx(-float(log_det[k]), abs=1e-10)


def test_volume_element_of_local_frames_against_autograd():
    x = conformations(50)
    gauge = FrameGauge.local_from_data(chain(N_ATOMS), x, uniform(50))
    tokens, log_det = gauge.forward(x)
    covariance = torch.einsum("bni,bnj->nij", tokens[:, 3:], tokens[:, 3:]) / 50
    assert torch.allclose(covariance, torch.eye(3).double().expand_as(covariance), atol=1e-9), "white, atom by atom"
    for k in range(3):
        assert volume_of_shape(gauge, tokens[k]) == pytest.approx(-float(log_det[k]), abs=1e-9)


@pytest.mark.parametrize("kind", ["soft", "meanfree"])
def test_volume_element_of_linear_gauges(kind):
    x = conformations(50)
    gauge = new_gauge(kind, chain(N_ATOMS), x, uniform(len(x)))

    def tokens_of(x):
        return gauge.forward(x.reshape(1, -1, 3))[0].reshape(-1)

    jacobian = torch.autograd.functional.jacobian(tokens_of, x[0].reshape(-1))
    square = jacobian @ jacobian.T
    expected = 0.5 * float(torch.linalg.slogdet(square).logabsdet)
    assert float(gauge.forward(x[:1])[1]) == pytest.approx(expected, abs=1e-9)


def test_frame_tokens_do_not_depend_on_the_pose_but_on_the_hand():
    x = conformations(30)
    gauge = FrameGauge.from_data(chain(N_ATOMS), x, uniform(30), (1, 0, 2))
    tokens, _ = gauge.forward(x)
    turned = x @ random_rotations(30, torch.Generator().manual_seed(3)).transpose(1, 2) + 2.0
    assert torch.allclose(gauge.forward(turned)[0], tokens, atol=1e-10)
    mirrored, _ = gauge.forward(x * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.allclose(mirrored[:, 3:, 2] + tokens[:, 3:, 2], -2 * gauge.centre[3:, 2] / gauge.axes[3:, 2, 2])
    assert float((mirrored - tokens).abs().max()) > 0.1


def test_frame_of_a_peptide_and_frames_that_are_refused():
    from gibbsian.chem.library import built_in

    topology = built_in("ACE-ALA-NME").topology
    assert [topology.atom_names[k] for k in middle_frame(topology)] == ["CA", "N", "C"]
    x = conformations(30)
    with pytest.raises(InputError, match="no residue with atoms CA, N, C"):
        new_gauge("frame", chain(N_ATOMS), x, uniform(len(x)))
    with pytest.raises(InputError, match="three different"):
        new_gauge("frame", chain(N_ATOMS), x, uniform(len(x)), frame=(0, 0, 1))
    flat = x.clone()
    flat[:, :3] = torch.tensor([[0.0, 0, 0], [0.15, 0, 0], [0.3, 0.01, 0]])
    with pytest.raises(InputError, match="of a line"):
        new_gauge("frame", chain(N_ATOMS), flat, None, frame=(1, 0, 2))
    with pytest.raises(InputError, match="the gauges are soft, meanfree, frame, local"):
        new_gauge("none", chain(N_ATOMS), x, uniform(len(x)))
    with pytest.raises(InputError, match="the laws of the centre are gaussian, chi3"):
        new_gauge("soft", chain(N_ATOMS), x, uniform(len(x)), com="none")


def test_frame_measure_by_quadrature():
    """Three atoms on springs, U = sum |xi - xj|^2: log Z = 3 log(2 pi / 6), from the three internal numbers."""
    gauge = FrameGauge(
        (0, 1, 2), torch.zeros(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    )
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(100))
    # Below exp(-12.5) the integrand is 1e-11 of its maximum, above exp(1.5) less.
    log_r, u = -5.5 + 7.0 * nodes, 6.0 * nodes
    grid = torch.meshgrid(log_r, u, log_r, indexing="ij")
    w = torch.einsum("i,j,k->ijk", 7.0 * weights, 6.0 * weights, 7.0 * weights).reshape(-1)
    tokens = torch.zeros(len(w), 3, 3, dtype=torch.float64)
    tokens[:, 1, 0], tokens[:, 2, 0], tokens[:, 2, 1] = (part.reshape(-1) for part in grid)
    x, log_j = gauge.inverse(tokens)
    energy = sum((x[:, i] - x[:, j]).square().sum(-1) for i, j in ((0, 1), (0, 2), (1, 2)))
    log_z = float(torch.logsumexp(log_j - energy + w.log(), 0))
    assert log_z == pytest.approx(3 * math.log(2 * math.pi / 6), abs=1e-9)


def perfect(molecule: HarmonicMolecule, n: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Exact samples with a Gaussian centre, the log q of a flow that has learnt both, and the scale of its gauge."""
    g = torch.Generator().manual_seed(0)
    n_atoms, width = molecule.n_atoms, math.sqrt(kt(300.0) / (molecule.k * molecule.n_atoms))
    scale = width * math.sqrt(1 - 1 / n_atoms)
    shape = width * torch.randn(n, n_atoms - 1, 3, generator=g, dtype=torch.float64)
    noise = scale * torch.randn(n, 1, 3, generator=g, dtype=torch.float64)
    x = mean_free_basis(n_atoms).T @ shape + noise / math.sqrt(n_atoms)
    log_shape = -0.5 * shape.square().sum((1, 2)) / width**2 - 1.5 * (n_atoms - 1) * math.log(2 * math.pi * width**2)
    log_noise = -0.5 * noise.square().sum((1, 2)) / scale**2 - 1.5 * math.log(2 * math.pi * scale**2)
    return x, log_shape + log_noise, scale


@pytest.mark.physics
@pytest.mark.parametrize(("com", "low", "high"), [("gaussian", 0.999999, 1.0), ("chi3", 0.58, 0.62), (None, 0.0, 0.01)])
def test_a_perfect_flow_has_the_effective_size_that_the_law_of_the_centre_allows(com, low, high):
    molecule = HarmonicMolecule()
    n = 10_000
    x, log_q, scale = perfect(molecule, n)
    u = molecule.energy(x) / kt(300.0)
    gauge = SoftGauge(molecule.n_atoms, torch.tensor(scale, dtype=torch.float64), com or "gaussian")
    log_w = (torch.zeros(n) if com is None else gauge.log_gauge(x)) - u - log_q
    assert low <= ess(log_w.numpy()) / n <= high + 1e-12
    if com is not None:
        log_z = float(torch.logsumexp(log_w, 0)) - math.log(n)
        assert log_z == pytest.approx(molecule.log_z(300.0), abs=1e-9 if com == "gaussian" else 0.04)
        one = gauge.log_gauge(x[:1])
        assert torch.equal(one, gauge.log_gauge(x)[:1]), "the weight of a sample must not depend on its neighbours"


@pytest.mark.physics
def test_a_fitted_law_takes_out_what_the_flow_has_learnt_wrong_of_the_centre():
    molecule, n = HarmonicMolecule(), 10_000
    x, log_q, scale = perfect(molecule, n)
    shift = torch.tensor([0.02, 0.0, -0.01], dtype=torch.float64)

    def flawed(part):
        """Draws of a flow whose centre is 10 % too wide, and the same one off the origin."""
        wide = x[part] + 0.1 * x[part].mean(1, keepdim=True)
        return wide, log_q[part] - 3 * math.log(1.1), wide + shift

    weighted, fitting = slice(0, n // 2), slice(n // 2, n)
    gauge = SoftGauge(molecule.n_atoms, torch.tensor(scale, dtype=torch.float64), "fitted")
    wide, log_density, moved = flawed(weighted)
    u = molecule.energy(wide) / kt(300.0)

    def share(law, x):
        log_w = law.log_gauge(x) - u - log_density
        assert float(torch.logsumexp(log_w, 0)) - math.log(len(x)) == pytest.approx(molecule.log_z(300.0), abs=0.03)
        return ess(log_w.numpy()) / len(x)

    assert share(gauge, wide) == pytest.approx(0.955, abs=0.01)
    assert share(gauge.fitted(flawed(fitting)[0]), wide) > 0.995
    assert share(gauge.fitted(flawed(fitting)[2]), moved) > 0.995
    with pytest.raises(InputError, match="com fitted: 0 finite draws"):
        gauge.fitted(wide * math.nan)
    grid = torch.linspace(-1.0, 1.0, 81, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid, grid)[:, None] / math.sqrt(molecule.n_atoms)
    total = gauge.fitted(moved).log_gauge(points.expand(-1, molecule.n_atoms, -1)).exp().sum() * 0.025**3
    assert float(total) == pytest.approx(1.0, abs=1e-3), "a density over the orthonormal centre"


def test_gradient_of_the_centre_is_finite_at_the_origin():
    x = torch.zeros(2, N_ATOMS, 3, dtype=torch.float64, requires_grad=True)
    SoftGauge(N_ATOMS, torch.tensor(0.1, dtype=torch.float64)).log_gauge(x).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_augmented_centres_have_the_law_that_is_divided_out():
    x = conformations(20_000)
    gauge = SoftGauge.from_data(x, uniform(len(x)))
    moved = gauge.augment(x, torch.Generator().manual_seed(0))
    centre = moved.mean(1) * math.sqrt(N_ATOMS)
    assert torch.allclose(centre.std(0), gauge.scale.expand(3), rtol=0.03)
    assert torch.allclose(torch.cdist(moved, moved), torch.cdist(x, x), atol=1e-12)
    bond = moved[:, 1] - moved[:, 0]
    assert torch.allclose(bond.mean(0), torch.zeros(3, dtype=bond.dtype), atol=0.003), "orientations must be uniform"
    assert torch.allclose(bond.T @ bond / len(x), bond.square().mean() * torch.eye(3).double(), atol=3e-4)
    assert bool((MeanFreeGauge.from_data(x, uniform(len(x))).augment(x, torch.Generator()).mean(1).abs() < 1e-12).all())
