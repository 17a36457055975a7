"""Frames from which a flow takes its scales before it is trained."""

import torch
from torch import Tensor

from gibbsian.errors import InputError

MOST_FRAMES = 50_000
LEAST_FRAMES = 10


def thinned(x: Tensor, log_w: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return every so-many-th of training conformations `x` (n, n_atoms, 3), and weights (m,) float64 of sum one.

    Raises
    ------
    InputError
        If there are fewer than ten.
    """
    if len(x) < LEAST_FRAMES:
        raise InputError(f"training data: {len(x)} conformations; give at least {LEAST_FRAMES}")
    stride = -(-len(x) // MOST_FRAMES)
    x = x[::stride]
    if log_w is None:
        return x, torch.full((len(x),), 1.0 / len(x)).double()
    return x, torch.softmax(log_w[::stride].double(), 0)
