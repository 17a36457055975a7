"""What physics does not see: the centre of mass and the orientation."""

import torch
from torch import Tensor


def centred(x: Tensor) -> Tensor:
    """`x` (B, n, 3) with its geometric centre at the origin."""
    return x - x.mean(-2, keepdim=True)


def random_rotations(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform rotation matrices (n, 3, 3), from normalised Gaussian quaternions."""
    q = torch.randn(n, 4, generator=generator, dtype=dtype)
    w, x, y, z = (q / torch.linalg.vector_norm(q, dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def randomly_turned(x: Tensor, generator: torch.Generator) -> Tensor:
    """`x` (B, n, 3) centred, each conformation turned by an independent uniform rotation."""
    rotations = random_rotations(len(x), generator, x.dtype).to(x.device)
    return centred(x) @ rotations.transpose(1, 2)


def mean_free_basis(n: int) -> Tensor:
    """Orthonormal rows (n - 1, n) that are perpendicular to the mean of `n` numbers (Helmert's matrix), float64."""
    rows = torch.tril(torch.ones(n - 1, n, dtype=torch.float64))
    k = torch.arange(1, n, dtype=torch.float64)
    rows[torch.arange(n - 1), torch.arange(1, n)] = -k
    return rows / torch.sqrt(k * (k + 1.0))[:, None]
