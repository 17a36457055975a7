"""Fixed map between internal coordinates and the variables of a flow, taken from the statistics of data.

Proper torsions become turns on the circle [0, 1). Everything else (sibling deltas, ring torsions, angles, bonds) is
narrow: its mean is regressed on the proper torsions and the residual is whitened, in the order deltas, angles, bonds.
Both steps are triangular, so the hierarchy q(torsions) q(angles | torsions) q(bonds | angles, torsions) survives
and the Jacobian is constant.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.coords.internal import Internal, InternalCoordinates, log_jacobian, mean_free_constant, wrap
from gibbsian.errors import InputError

HARMONICS = 2
DELTA_HALF_WIDTH = math.pi / 3.0
UNSCALED = torch.zeros(1, 1, dtype=torch.float64)
"""Log of a width of one."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is taken from data, float64.

    Attributes
    ----------
    centre
        (m,) circular mean of narrow torsions, mean of angles and bonds.
    regression
        (m, 1 + f) linear coefficients of the deviation from `centre` on 1 and `f` harmonics of the proper torsions.
    cholesky
        (m, m) lower triangular factor of the covariance of the residuals.
    """

    centre: Tensor
    regression: Tensor
    cholesky: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, for storage."""
        return {"centre": self.centre, "regression": self.regression, "cholesky": self.cholesky}


class Layout:
    """Which torsions are proper and which are narrow, and the sizes that follow."""

    def __init__(self, coordinates: InternalCoordinates) -> None:
        kinds = coordinates.zmatrix.kinds
        self.proper = torch.tensor([k for k, kind in enumerate(kinds) if kind == "proper"], dtype=torch.long)
        self.narrow = torch.tensor([k for k, kind in enumerate(kinds) if kind != "proper"], dtype=torch.long)
        self.n_angles = coordinates.n_atoms - 2
        self.n_bonds = coordinates.n_atoms - 1
        self.n_real = len(self.narrow) + self.n_angles + self.n_bonds
        half = [DELTA_HALF_WIDTH if kinds[k] == "delta" else math.pi for k in self.narrow.tolist()]
        self.half_width = torch.tensor(half, dtype=torch.float64)

    def split(self, y: Internal) -> tuple[Tensor, Tensor]:
        """Return proper torsions (B, p) and narrow variables (B, m): deltas and ring torsions, angles, bonds."""
        return y.torsions[:, self.proper], torch.cat([y.torsions[:, self.narrow], y.angles, y.bonds], -1)

    def join(self, proper: Tensor, real: Tensor) -> Internal:
        """Inverse of `split`."""
        narrow, angles, bonds = real.split([len(self.narrow), self.n_angles, self.n_bonds], -1)
        torsions = proper.new_empty(len(proper), len(self.proper) + len(self.narrow))
        torsions = torsions.index_copy(1, self.proper, proper).index_copy(1, self.narrow, wrap(narrow))
        return Internal(bonds, angles, torsions)

    def deviation(self, real: Tensor, centre: Tensor) -> Tensor:
        """`real` minus `centre`, wrapped for torsions."""
        difference = real - centre
        n = len(self.narrow)
        return torch.cat([wrap(difference[:, :n]), difference[:, n:]], -1)


def harmonics(proper: Tensor) -> Tensor:
    """Regressors (B, 1 + f): one, then cos and sin of the harmonics of each proper torsion."""
    waves = [f(k * proper) for k in range(1, HARMONICS + 1) for f in (torch.cos, torch.sin)]
    return torch.cat([torch.ones_like(proper[:, :1]), *waves], -1)


def fit_statistics(coordinates: InternalCoordinates, x: Tensor, log_w: Tensor | None = None) -> Statistics:
    """Take the statistics of weighted conformations `x` (n, n_atoms, 3) nm.

    Raises
    ------
    InputError
        If there are fewer effective conformations than twice the number of variables.
    """
    layout = Layout(coordinates)
    y, _ = coordinates.forward(x.double())
    proper, real = layout.split(y)
    weights = torch.full((len(x),), 1.0 / len(x)).double() if log_w is None else torch.softmax(log_w.double(), 0)
    effective = 1.0 / float(weights.square().sum())
    if effective < 2 * layout.n_real:
        raise InputError(
            f"training data: {effective:.0f} effective conformations for {layout.n_real} narrow coordinates; "
            f"give at least {2 * layout.n_real}"
        )
    n = len(layout.narrow)
    circular = torch.atan2((weights @ torch.sin(real[:, :n])), (weights @ torch.cos(real[:, :n])))
    centre = torch.cat([circular, weights @ real[:, n:]])
    deviation = layout.deviation(real, centre)
    design = harmonics(proper)
    gram = design.T @ (weights[:, None] * design)
    ridge = torch.eye(len(gram), dtype=gram.dtype) / effective
    regression = torch.linalg.solve(gram + ridge, design.T @ (weights[:, None] * deviation)).T
    residual = deviation - design @ regression.T
    covariance = residual.T @ (weights[:, None] * residual)
    jitter = 1e-6 * torch.diag(covariance.diagonal())
    # LAPACK hands back column-major arrays; row-major ones give the same rounding before and after storage.
    return Statistics(centre, regression.contiguous(), torch.linalg.cholesky(covariance + jitter).contiguous())


class Standardise:
    """Bijection between conformations and the variables of a flow.

    `forward` returns turns (B, p) in [0, 1), whitened variables (B, m), and log |d(turns, whitened) / dx| in the
    mean-free orthonormal measure; -inf where a delta lies on the wrong side (another handedness).

    Both take ``log_width`` (B or 1, 1), float64: the whitened variables are divided by its exponential, as if all
    narrow variables of the data spread so much more about their means.
    """

    def __init__(self, coordinates: InternalCoordinates, statistics: Statistics) -> None:
        self.coordinates, self.statistics = coordinates, statistics
        self.layout = Layout(coordinates)
        log_scale = statistics.cholesky.diagonal().log().sum() + len(self.layout.proper) * math.log(2.0 * math.pi)
        self._constant = -float(log_scale) - mean_free_constant(coordinates.n_atoms)

    def forward(self, x: Tensor, log_width: Tensor = UNSCALED) -> tuple[Tensor, Tensor, Tensor]:
        """From conformations (B, n_atoms, 3) nm, float64."""
        y, log_det = self.coordinates.forward(x)
        proper, real = self.layout.split(y)
        deviation = self.layout.deviation(real, self.statistics.centre)
        inside = (deviation[:, : len(self.layout.narrow)].abs() < self.layout.half_width).all(-1)
        residual = deviation - harmonics(proper) @ self.statistics.regression.T
        z = torch.linalg.solve_triangular(self.statistics.cholesky, residual.T, upper=False).T
        log_det = torch.where(inside, log_det + self._constant - self._log_volume(log_width), -torch.inf)
        return torch.remainder(proper / (2.0 * math.pi), 1.0), z * torch.exp(-log_width), log_det

    def inverse(self, turns: Tensor, z: Tensor, log_width: Tensor = UNSCALED) -> tuple[Tensor, Tensor, Tensor]:
        """To conformations (B, n_atoms, 3) nm, their log |dx / d(turns, whitened)|, and whether each is valid.

        A conformation is invalid, and then made of NaN, where a variable has left its domain.
        """
        proper = wrap(turns * (2.0 * math.pi))
        scaled = z * torch.exp(log_width)
        deviation = scaled @ self.statistics.cholesky.T + harmonics(proper) @ self.statistics.regression.T
        y = self.layout.join(proper, self.statistics.centre + deviation)
        n = len(self.layout.narrow)
        inside = (
            (deviation[:, :n].abs() < self.layout.half_width).all(-1)
            & (y.bonds > 0.0).all(-1)
            & ((y.angles > 0.0) & (y.angles < math.pi)).all(-1)
        )
        x, _ = self.coordinates.inverse(y)
        return x, log_jacobian(y) - self._constant + self._log_volume(log_width), inside

    def _log_volume(self, log_width: Tensor) -> Tensor:
        return self.layout.n_real * log_width.squeeze(-1)
