"""Batches from a weighted ensemble: the held-out split and draws by weight."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.residues import Symmetry
from gibbsian.chem.topology import Topology
from gibbsian.coords.permutations import random_relabelling
from gibbsian.ensemble.basins import BASINS, basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError

BLOCKS = 40
LEAST_LINEAGES = 10
MOST_RAISED = 10.0


@dataclass(frozen=True, eq=False)
class Frames:
    """Conformations (n, n_atoms, 3) float32 nm with log weights (n,).

    `temperature` (K) is what the weights are for, where the model has to know it.
    """

    x: Tensor
    log_w: Tensor
    temperature: float | None = None

    def __len__(self) -> int:
        return len(self.x)

    def thinned(self, most: int) -> "Frames":
        """At most about `most` frames, evenly spaced."""
        stride = -(-len(self) // most)
        return Frames(self.x[::stride], self.log_w[::stride], self.temperature)


class Source:
    """Frames from which `n` conformations of each batch are drawn, with replacement and in proportion to weights."""

    def __init__(self, frames: Frames, n: int) -> None:
        self.frames, self.n = frames, n
        self._cumulative = torch.softmax(frames.log_w, 0).cumsum(0)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return the indices of one batch, (n,)."""
        points = torch.rand(self.n, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        return torch.searchsorted(self._cumulative, points, right=True).clamp_max(len(self.frames) - 1)


def split(data: Ensemble, held_out: float, seed: int) -> tuple[Ensemble, Ensemble]:
    """Split into training and held-out frames: whole lineages where there are ten, contiguous blocks else.

    Never by frame: neighbours in time are alike, and a flow that remembers one would look good on the other.

    Raises
    ------
    InputError
        If `held_out` is not in (0, 0.5] or there are too few frames.
    """
    if not 0.0 < held_out <= 0.5:
        raise InputError(f"training: held_out is {held_out}; give a share above 0 and at most 0.5")
    finite = np.isfinite(data.log_w)
    if finite.sum() < 2 * BLOCKS:
        raise InputError(f"training data: {finite.sum()} weighted frames; give at least {2 * BLOCKS}")
    block = np.arange(len(data)) * BLOCKS // len(data)
    if data.lineage is not None and len(np.unique(data.lineage)) >= LEAST_LINEAGES:
        block = np.unique(data.lineage, return_inverse=True)[1]
    n_blocks = int(block.max()) + 1
    kept_out = np.random.default_rng(seed).permutation(n_blocks)[: max(1, round(held_out * n_blocks))]
    out = np.isin(block, kept_out)

    return data.take(~out & finite), data.take(out & finite)


def frames_of(data: Ensemble) -> Frames:
    """Return conformations and log weights as tensors."""
    return Frames(torch.from_numpy(data.positions), torch.from_numpy(data.log_w))


def enrich(frames: Frames, topology: Topology, share: float) -> Frames:
    """Raise the weights in rare backbone basins, so that a flow learns them from more than a handful of frames.

    The least share of each basin is `share` over the number of residues; no weight rises more than `MOST_RAISED`-fold.
    What the flow proposes too often its importance weights correct, at the price of about that share of the samples.
    """
    return raise_rare(frames, basin_masks(topology, frames.x.numpy()), share)


def raise_rare(frames: Frames, masks: Mapping[str, NDArray[np.bool_]], share: float) -> Frames:
    """Do the work of `enrich` for known masks (n,) of the basins."""
    weights = torch.softmax(frames.log_w, 0)
    least = share * len(BASINS) / max(len(masks), 1)
    raised = torch.zeros_like(frames.log_w)
    for mask in map(torch.from_numpy, masks.values()):
        found = float(weights[mask].sum())
        if 0.0 < found < least:
            raised[mask] = raised[mask].clamp_min(math.log(min(least / found, MOST_RAISED)))
    return Frames(frames.x, frames.log_w + raised, frames.temperature)


def draw_batch(sources: list[Source], groups: list[Symmetry], generator: torch.Generator) -> Tensor:
    """One batch from all sources, relabelled."""
    x = torch.cat([source.frames.x[source.draw(generator)] for source in sources])
    return random_relabelling(x, groups, generator)
