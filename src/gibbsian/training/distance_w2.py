"""2-Wasserstein distance between Gaussians fitted to backbone distances of a batch and of data, as a loss.

Definitions 3.1 and Eqs. 7-8 of Kim et al., arXiv 2401.04246, without ever forming a covariance matrix: with centred
batches A and B, scaled so that A^T A and B^T B are the covariances, tr (S_q S_p)^(1/2) is the nuclear norm of A B^T.

The value is far from zero even where both distributions are one, since each covariance is estimated from few
conformations: print `DistanceW2.floor` beside it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.align import superpose
from gibbsian.ensemble.atoms import select
from gibbsian.ensemble.distances import split_reference
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.estimators import blocks_of
from gibbsian.ensemble.weights import resample
from gibbsian.errors import InputError

RANK = 0.75
"""Singular values below eps^RANK of the largest (7e-6 in single, 2e-12 in double precision) have no gradient."""
_CHUNK = 512
"""Conformations of the data whose features are computed at once."""


@dataclass(frozen=True)
class W2Settings:
    """What is compared.

    Attributes
    ----------
    atoms
        Alpha carbons, or N, CA and C of every residue.
    features
        All distances between these atoms, or their coordinates superposed on one frame of the data.
    mean_only
        Compare the means only.
    pairs
        Compare that many distances, drawn once, instead of all.
    n_reference
        Frames of the data that the reference is made of.
    seed
        Of the choice of pairs and frames.
    """

    atoms: Literal["ca", "backbone"] = "ca"
    features: Literal["distances", "coordinates"] = "distances"
    mean_only: bool = False
    pairs: int | None = None
    n_reference: int = 4096
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Features:
    """Map of conformations to what is compared.

    Attributes
    ----------
    atoms
        (a,) indices of the atoms looked at.
    pairs
        (P, 2) places in `atoms` whose distances are the features; None for coordinates.
    template
        (a, 3) nm, what coordinates are superposed on; None for distances.
    """

    atoms: Tensor
    pairs: Tensor | None
    template: Tensor | None

    def __call__(self, chosen: Tensor) -> Tensor:
        """Features (B, P) in nm of the atoms looked at, `chosen` (B, a, 3) nm; differentiable."""
        if self.pairs is not None:
            # The gradient of a vanishing distance is zero here, not NaN.
            return torch.linalg.vector_norm(chosen[:, self.pairs[:, 0]] - chosen[:, self.pairs[:, 1]], dim=-1)
        assert self.template is not None
        return superpose(chosen, self.template)[0].flatten(1)


class Floor(NamedTuple):
    """The loss of data against data.

    Attributes
    ----------
    value, error
        Mean and standard deviation over splits of the data, nm^2 per feature.
    n, n_reference
        Conformations in the batch and in the reference: fewer than asked for where the data are few, and then
        the value is an upper bound.
    """

    value: float
    error: float
    n: int
    n_reference: int


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """Mean (P,), scaled centred rows (r, P) and trace of the covariance of weighted features."""

    mean: Tensor
    rows: Tensor
    trace: Tensor


@dataclass(frozen=True, eq=False)
class DistanceW2:
    """The loss; made by `distance_w2`.

    Attributes
    ----------
    features
        What is compared.
    reference
        Mean, rows and trace of the data.
    pool, weights, blocks
        Frames (m, a, 3) nm for the floor, their normalised weights (m,) and independent sources (m,).
    settings
        As given.
    """

    features: Features
    reference: _Gaussian
    pool: Tensor
    weights: NDArray[np.float64]
    blocks: NDArray[np.int64]
    settings: W2Settings

    def __call__(self, x: Tensor) -> Tensor:
        """Squared distance of a batch from the data, nm^2 per feature, differentiable.

        Parameters
        ----------
        x
            (B, n_atoms, 3) nm. Conformations that are not finite are left out; with fewer than two left it is NaN.
        """
        chosen = x[:, self.features.atoms].to(self.pool.dtype)
        finite = torch.isfinite(chosen).flatten(1).all(1)
        return self._loss(chosen if bool(finite.all()) else chosen[finite], self.reference)

    def _loss(self, chosen: Tensor, reference: _Gaussian) -> Tensor:
        if len(chosen) < 2:
            return torch.full((), torch.nan, dtype=chosen.dtype, device=chosen.device) + 0 * chosen.sum()
        batch = gaussian(self.features(chosen))
        squared = (batch.mean - reference.mean).square().sum()
        if not self.settings.mean_only:
            squared = squared + batch.trace + reference.trace - 2 * nuclear_norm(batch.rows @ reference.rows.T)
        return squared / len(reference.mean)

    def floor(self, n: int, *, repeats: int = 3, seed: int = 0) -> Floor:
        """Loss of `n` frames of one half of the data against a reference from the other half.

        Halves are whole lineages (stretches of time of a single one), drawn anew in every repeat.

        Raises
        ------
        InputError
            If the data cannot be divided.
        """
        values, sizes = [], []
        for repeat in range(repeats):
            rng = np.random.default_rng([seed, repeat])
            first, second = split_reference(self.blocks, seed=int(rng.integers(2**31)))
            first = rng.permutation(first)[: self.settings.n_reference]
            drawn = min(n, len(second))
            share = self.weights[second]
            batch = second[resample(share, drawn, seed=int(rng.integers(2**31)))]
            with torch.no_grad():
                reference = _gaussian_of(self.features, self.pool[first], self.weights[first])
                values.append(float(self._loss(self.pool[batch], reference)))
            sizes.append((drawn, len(first)))
        smallest = np.min(sizes, axis=0)
        return Floor(float(np.mean(values)), float(np.std(values)), int(smallest[0]), int(smallest[1]))


def gaussian(features: Tensor, weights: Tensor | None = None) -> _Gaussian:
    """Mean, rows R with R^T R = covariance, and trace of features (n, P).

    With weights (n,), normalised here, the covariance is unbiased where these count how reliable frames are:
    sum w (f - mean)(f - mean)^T / (1 - sum w^2), which for equal ones has the usual n - 1.
    """
    if weights is None:
        mean = features.mean(0)
        rows = (features - mean) / (len(features) - 1) ** 0.5
    else:
        share = weights / weights.sum()
        mean = share @ features
        rows = (share / (1 - share.square().sum())).sqrt()[:, None] * (features - mean)
    return _Gaussian(mean, rows, rows.square().sum())


def nuclear_norm(m: Tensor) -> Tensor:
    """Sum of the singular values of `m`, with the subgradient U V^T over those that are not negligible.

    Differentiating the decomposition itself would divide by differences of singular values.
    """
    u, s, vt = torch.linalg.svd(m.detach(), full_matrices=False)
    kept = s > torch.finfo(s.dtype).eps ** RANK * s[:1]
    inner = (m * ((u * kept) @ vt)).sum()
    return inner + (s.sum() - inner.detach())


def _gaussian_of(features: Features, frames: Tensor, weights: NDArray[np.float64]) -> _Gaussian:
    parts = torch.cat([features(part) for part in frames.split(_CHUNK)])
    return gaussian(parts, torch.as_tensor(weights, dtype=parts.dtype, device=parts.device))


def distance_w2(
    data: Ensemble,
    settings: W2Settings | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> DistanceW2:
    """Prepare the loss against weighted data.

    Parameters
    ----------
    data
        Frames with weights; of more than twice ``n_reference`` that many are drawn by weight.
    settings
        What is compared; distances of alpha carbons by default.
    dtype, device
        Of the computation; a batch may have others.

    Raises
    ------
    InputError
        If the molecule has fewer than two such atoms, more pairs are asked for than it has, or fewer than two
        frames have weight.
    """
    settings = W2Settings() if settings is None else settings
    index, weights = _pool(data, 2 * settings.n_reference, settings.seed)
    atoms = select(data.topology, settings.atoms)
    pool = torch.tensor(data.positions[np.ix_(index, atoms)], dtype=dtype, device=device)
    features = _features(data.topology, settings, pool[int(np.argmax(weights))])
    blocks = np.arange(len(index)) if data.lineage is None else blocks_of(data.lineage[index])
    chosen = np.random.default_rng(settings.seed).permutation(len(index))[: settings.n_reference]
    with torch.no_grad():
        reference = _gaussian_of(features, pool[chosen], weights[chosen])
        if len(reference.rows) > len(reference.mean):
            # B = Q R leaves the nuclear norm of A B^T that of A R^T, with fewer columns.
            triangle = torch.linalg.qr(reference.rows, mode="r").R
            reference = _Gaussian(reference.mean, triangle, reference.trace)
    return DistanceW2(features, reference, pool, weights, blocks, settings)


def _pool(data: Ensemble, most: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames kept and their normalised weights: all of positive weight, or `most` draws by weight, counted."""
    index = np.flatnonzero(data.weights > 0)
    weights = data.weights[index]
    if len(index) > most:
        index, counts = np.unique(resample(data.weights, most, seed=seed), return_counts=True)
        weights = counts / most
    if len(index) < 2:
        raise InputError(f"W2 loss: {len(index)} frames of the data have weight; give at least two")
    return index, weights


def _features(topology: Topology, settings: W2Settings, template: Tensor) -> Features:
    atoms = torch.as_tensor(select(topology, settings.atoms), device=template.device)
    if settings.features == "coordinates":
        if settings.pairs is not None:
            raise InputError(f"W2 loss: {settings.pairs} pairs of coordinates; pairs belong to features = distances")
        return Features(atoms, None, template)
    n = len(atoms)
    pairs = np.stack(np.triu_indices(n, 1), axis=1)
    if len(pairs) == 0:
        raise InputError(f"W2 loss: {n} atoms of {settings.atoms} have no distances; choose atoms = backbone")
    if settings.pairs is not None:
        if not 1 <= settings.pairs <= len(pairs):
            raise InputError(f"W2 loss: {settings.pairs} pairs of {len(pairs)}; ask for between one and all")
        drawn = np.random.default_rng(settings.seed).choice(len(pairs), settings.pairs, replace=False)
        pairs = pairs[np.sort(drawn)]
    return Features(atoms, torch.as_tensor(pairs, device=template.device), None)
