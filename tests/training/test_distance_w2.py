from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.testing.backbone import backbone_positions, backbone_topology
from gibbsian.training.distance_w2 import DistanceW2, Features, W2Settings, distance_w2, gaussian, nuclear_norm


def helix(n: int, residues: int = 4, spread: float = 0.3, seed: int = 0, phi: float = -1.1) -> Ensemble:
    rng = np.random.default_rng(seed)
    angles = rng.normal([phi, -0.8], spread, (n, residues, 2))
    x = backbone_positions(angles[..., 0], angles[..., 1])
    return Ensemble(x, np.zeros(n), backbone_topology(residues), 300.0)


def shaken(ensemble: Ensemble, seed: int = 0) -> Ensemble:
    noise = np.random.default_rng(seed).normal(scale=0.01, size=ensemble.positions.shape)
    return replace(ensemble, positions=(ensemble.positions + noise).astype(np.float32))


def batch(ensemble: Ensemble) -> Tensor:
    return torch.tensor(ensemble.positions, dtype=torch.float64)


def dense(q: Tensor, p: Tensor, weights: Tensor | None = None) -> float:
    """The loss from covariance matrices and their eigenvalues."""
    w = torch.ones(len(p), dtype=p.dtype) if weights is None else weights
    difference = q.mean(0) - (w[:, None] * p).sum(0) / w.sum()
    s_q, s_p = torch.cov(q.T), torch.cov(p.T, aweights=w)
    values, axes = torch.linalg.eigh(s_q)
    root = (axes * values.clamp_min(0).sqrt()) @ axes.T
    cross = torch.linalg.eigvalsh(root @ s_p @ root).clamp_min(0).sqrt().sum()
    return float((difference @ difference + s_q.trace() + s_p.trace() - 2 * cross) / len(difference))


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_the_dense_form(weighted: bool):
    data, q = helix(300), helix(200, spread=0.4, seed=1, phi=-1.3)
    if weighted:
        data = replace(data, log_w=np.random.default_rng(2).normal(size=300))
    loss = distance_w2(data)
    weights = torch.tensor(data.weights)
    expected = dense(loss.features(batch(q)[:, loss.features.atoms]), loss.features(loss.pool), weights)
    assert expected > 1e-4
    assert float(loss(batch(q))) == pytest.approx(expected, abs=1e-10)


def test_a_weight_of_zero_is_a_frame_that_is_not_there():
    data, q = helix(200), batch(helix(50, seed=1))
    few = distance_w2(data.take(slice(0, 120)))(q)
    silent = replace(data, log_w=np.where(np.arange(200) < 120, 0.0, -np.inf))
    assert float(distance_w2(silent)(q)) == pytest.approx(float(few), rel=1e-10)


@pytest.mark.parametrize("n", [12, 90])
@pytest.mark.parametrize("settings", [W2Settings("backbone"), W2Settings(features="coordinates"), W2Settings()])
def test_gradient_agrees_with_finite_differences(n: int, settings: W2Settings):
    # Bonds must stretch: where the data do not move at all, the loss has a kink.
    loss = distance_w2(shaken(helix(80, residues=5)), settings)
    x = batch(shaken(helix(n, residues=5, spread=0.5, seed=3), seed=4)).requires_grad_()
    loss(x).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    step, rng = 1e-5, torch.Generator().manual_seed(0)
    for _ in range(3):
        way = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        with torch.no_grad():
            difference = float(loss(x + step * way) - loss(x - step * way)) / (2 * step)
        assert float((x.grad * way).sum()) == pytest.approx(difference, rel=2e-5, abs=1e-10)


def test_does_not_see_the_order_of_pairs_or_of_conformations():
    loss = distance_w2(helix(100))
    x = batch(helix(40, seed=1))
    pairs = loss.features.pairs
    assert pairs is not None
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))
    mixed_features = Features(loss.features.atoms, pairs[order].flip(1), None)
    rows = gaussian(mixed_features(loss.pool))
    mixed = DistanceW2(mixed_features, rows, loss.pool, loss.weights, loss.blocks, loss.settings)
    assert float(mixed(x)) == pytest.approx(float(loss(x)), rel=1e-10)
    assert float(loss(x.flip(0))) == pytest.approx(float(loss(x)), rel=1e-10)


@pytest.mark.parametrize("n", [5, 100])
def test_is_zero_for_the_data_themselves(n: int):
    data = helix(n)
    x = batch(data).requires_grad_()
    value = distance_w2(data)(x)
    assert value.item() == pytest.approx(0.0, abs=1e-15)
    value.backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-8


def test_mean_only_is_the_distance_of_the_means():
    data, q = helix(100), helix(60, seed=1, phi=-1.4)
    loss = distance_w2(data, W2Settings(mean_only=True))
    ours, theirs = (loss.features(batch(e)[:, loss.features.atoms]).mean(0) for e in (q, data))
    assert float(loss(batch(q))) == pytest.approx(float((ours - theirs).square().mean()), rel=1e-10)
    assert float(loss(batch(q))) < float(distance_w2(data)(batch(q)))


def test_pairs_are_drawn_by_the_seed():
    data = helix(60, residues=8)

    def pairs(seed: int) -> list[list[int]]:
        drawn = distance_w2(data, W2Settings(pairs=10, seed=seed)).features.pairs
        assert drawn is not None
        return drawn.tolist()

    assert pairs(0) == pairs(0)
    assert pairs(0) != pairs(1)
    assert len({tuple(pair) for pair in pairs(0)}) == 10
    with pytest.raises(InputError, match="29 pairs of 28"):
        distance_w2(data, W2Settings(pairs=29))


def test_floor_is_positive_falls_with_size_and_is_what_two_halves_give():
    loss = distance_w2(helix(1000, residues=6), W2Settings(n_reference=250))
    small, large = loss.floor(20), loss.floor(250)
    assert small.n == 20
    assert small.n_reference == 250
    assert small.value > 3 * large.value > 0
    assert loss.floor(20) == small
    fresh = np.mean([float(loss(batch(helix(20, residues=6, seed=s)))) for s in range(1, 8)])
    assert small.value == pytest.approx(fresh, rel=0.5)
    assert loss.floor(5000).n == 250  # not more than half of the pool


def test_floor_separates_lineages():
    # Two lineages at different places: between them lies what a split by frame would hide.
    parts = [helix(200), helix(200, phi=-1.9, seed=1)]
    both = np.concatenate([e.positions for e in parts])
    lineage = np.repeat([0, 1], 200)
    data = Ensemble(both, np.zeros(400), parts[0].topology, 300.0, lineage=lineage)
    apart = distance_w2(data).floor(100).value
    together = distance_w2(replace(data, lineage=None)).floor(100).value
    assert apart > 10 * together


def test_conformations_that_are_not_finite_are_left_out():
    loss = distance_w2(helix(50))
    x = batch(helix(20, seed=1))
    broken = torch.cat([x, torch.full_like(x[:1], torch.nan)])
    assert float(loss(broken)) == pytest.approx(float(loss(x)), rel=1e-12)
    assert torch.isnan(loss(broken[-2:]))


def test_single_precision_rounds_far_below_the_floor():
    data, x = shaken(helix(1000, residues=8)), batch(shaken(helix(64, residues=8, seed=1), seed=2))
    found = []
    for dtype in (torch.float64, torch.float32):
        loss, moved = distance_w2(data, W2Settings("backbone"), dtype=dtype), x.clone().requires_grad_()
        value = loss(moved)
        found.append((float(value.detach()), torch.autograd.grad(value, moved)[0]))
    (value, gradient), (rounded, other) = found
    assert abs(rounded - value) < 1e-3 * distance_w2(data, W2Settings("backbone")).floor(64).value
    assert float((other - gradient).norm()) < 1e-3 * float(gradient.norm())


def test_coinciding_atoms_have_a_finite_gradient():
    loss = distance_w2(helix(50), W2Settings("backbone"))
    x = batch(helix(20, seed=1))
    x[0, 3] = x[0, 4]
    x.requires_grad_()
    loss(x).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_nuclear_norm_of_a_degenerate_matrix():
    m = torch.eye(4, dtype=torch.float64)[:, :3].clone().requires_grad_()
    value = nuclear_norm(m)
    value.backward()
    assert value.item() == pytest.approx(3.0)
    assert torch.equal(m.grad, m.detach())  # pyright: ignore[reportArgumentType]


def test_input_that_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="1 atoms of ca"):
        distance_w2(helix(10, residues=1))
    with pytest.raises(InputError, match="1 frames"):
        distance_w2(helix(1))
    with pytest.raises(InputError, match="pairs of coordinates"):
        distance_w2(helix(10), W2Settings(features="coordinates", pairs=3))
