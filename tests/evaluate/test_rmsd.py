import torch

from gibbsian.coords.align import rmsd
from gibbsian.coords.gauge import randomly_turned
from gibbsian.evaluate.rmsd import rmsd_matrix, rmsd_pairs


def clouds(n: int, seed: int, atoms: int = 12) -> torch.Tensor:
    return torch.randn(n, atoms, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_agrees_with_superposition():
    x, y = clouds(30, 0), clouds(7, 1)
    expected = torch.stack([rmsd(x, reference) for reference in y], dim=1)
    assert torch.allclose(rmsd_matrix(x, y), expected, atol=1e-12)
    assert torch.allclose(rmsd_pairs(x[:7], y), expected[:7].diagonal(), atol=1e-12)
    assert torch.allclose(rmsd_pairs(x, y[0]), expected[:, 0], atol=1e-12)


def test_copies_are_at_zero_and_mirror_images_are_not():
    x = clouds(20, 2)
    turned = randomly_turned(x, torch.Generator().manual_seed(3)) + 5.0
    assert rmsd_pairs(x, turned).max() < 1e-6
    mirrored = x * torch.tensor([1.0, 1.0, -1.0])
    assert torch.allclose(
        rmsd_pairs(x, mirrored), torch.cat([rmsd(a[None], b) for a, b in zip(x, mirrored, strict=True)])
    )
    assert rmsd_pairs(x, mirrored).min() > 0.1


def test_flat_straight_and_equal_points():
    flat = clouds(5, 4)
    flat[..., 2] = 0
    straight = flat.clone()
    straight[..., 1] = 0
    for x in (flat, straight):
        expected = torch.stack([rmsd(x, reference) for reference in x], dim=1)
        assert torch.allclose(rmsd_matrix(x, x), expected, atol=1e-5)
    points = torch.zeros(2, 4, 3, dtype=torch.float64)
    assert rmsd_matrix(points, points).max() < 1e-100
    assert rmsd_pairs(flat[:0], flat[:0]).shape == (0,)
