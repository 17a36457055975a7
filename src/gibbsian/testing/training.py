"""Conformance of replay buffers and of training over a list of stages."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gibbsian.errors import StoppedError
from gibbsian.progress import Report

GENERATIONS = ((1.0, 2.0), (-1.0, 1.5))
"""Centre and width of the two Gaussian generators that a buffer is filled from."""
N = 50_000


class ReplayBuffer(Protocol):
    """A store of weighted samples, each with the density of its own generator."""

    def add(self, x: Tensor, u: Tensor, log_q: Tensor) -> float:
        """Store samples (n, n_atoms, 3) with u and log q (n,); return their effective number."""
        ...

    def merged(self) -> tuple[Tensor, Tensor]:
        """All samples and their log weights, normalised to sum one."""
        ...


def check_buffer(new_buffer: Callable[[], ReplayBuffer]) -> None:
    """Check that samples of two generators give a known average, and broken ones weigh nothing.

    Raises
    ------
    AssertionError
        Saying what is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    buffer = new_buffer()
    for centre, width in GENERATIONS:
        z = centre + width * torch.randn(N, generator=generator, dtype=torch.float64)
        log_q = -0.5 * ((z - centre) / width).square() - math.log(width)
        u = 0.5 * z.square()
        u[0], u[1] = math.inf, math.nan
        effective = buffer.add(z[:, None, None].expand(-1, 1, 3), u, log_q)
        assert 1 < effective < N, f"buffer: effective number {effective} of {N} samples"
    x, log_w = buffer.merged()
    weights = torch.exp(log_w)
    assert bool(torch.isfinite(weights).all()), "buffer: weights of broken energies are not finite"
    assert abs(float(weights.sum()) - 1.0) < 1e-6, f"buffer: weights sum to {float(weights.sum())}"
    square = float((weights * x[:, 0, 0].double().square()).sum())
    assert abs(square - 1.0) < 0.03, (
        f"buffer: <x^2> of a unit Gaussian is {square}; are densities those of the generators?"
    )


def check_resumable(train: Callable[[Path, Report], dict[str, Tensor]], scratch: Path, stops: tuple[int, ...]) -> None:
    """Check that training stopped anywhere continues with the bits of an undisturbed run.

    Parameters
    ----------
    train
        Trains all stages in a folder, calls the report after each checkpoint, and returns the learnt tensors.
    scratch
        Empty folder to work in.
    stops
        Which report of each attempt stops it.

    Raises
    ------
    AssertionError
        Naming the first tensor that differs.
    """
    undisturbed = train(scratch / "whole", lambda done, total, /, **figures: None)
    for stop in stops:
        count = 0

        def report(done: float, total: float, /, **figures: float | str) -> None:
            nonlocal count
            count += 1
            if count == stop:  # noqa: B023  called within this turn of the loop
                raise StoppedError("stopped by the check")

        try:
            train(scratch / "parts", report)
        except StoppedError:
            continue
        raise AssertionError(f"training: ended before its report number {stop}; checkpoints are too rare to be stopped")
    resumed = train(scratch / "parts", lambda done, total, /, **figures: None)
    for name, tensor in undisturbed.items():
        assert torch.equal(tensor, resumed[name]), f"training: {name} differs after resuming"
