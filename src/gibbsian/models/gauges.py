"""What a Cartesian flow does about position and orientation, which no energy sees: three gauges with one interface.

A gauge maps conformations in nm to tokens (B, T, 3) of about unit size and back, with the log-determinant in the
measure of the package; it says which numbers of a token exist, how training data are moved, and which density the flow
gives to the centre of mass. All tensors are float64 on the device of what comes in.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import Frame
from gibbsian.coords.gauge import centred, mean_free_basis, randomly_turned
from gibbsian.coords.local import LocalCoordinates
from gibbsian.errors import InputError
from gibbsian.models.frame_gauge import FrameGauge

COM_LAWS = ("gaussian", "chi3")
COM_CHOICES = (*COM_LAWS, "fitted")
LEAST_CENTRES = 100


class Gauge(Protocol):
    """How a Cartesian flow treats the pose."""

    @property
    def mask(self) -> Tensor:
        """The numbers of each token that exist, (T, 3) bool; the others are zero."""
        ...

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, 3) of conformations (B, n, 3) nm, and log |d tokens / dx| (B,)."""
        ...

    def inverse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations (B, n, 3) nm of tokens, and log |dx / d tokens| (B,)."""
        ...

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move conformations as the flow expects its training data; their shapes do not change."""
        ...

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) given to the orthonormal centre of mass ``sqrt(n) c`` in nm; zero where there is none."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return what was taken from data, for storage."""
        ...


@dataclass(frozen=True, eq=False)
class SoftGauge:
    """All 3n coordinates; training data are turned at random and their centre is drawn from N(0, s^2 / n).

    That width is the one of `n` independent normals, so the base distribution has it right from the start. The
    flow learns both laws only approximately, "softly"; the centre's is divided out exactly.

    Attributes
    ----------
    n_atoms, scale
        Atoms; nm per network unit (s).
    com
        Density given to the centre c: ``gaussian`` is the law of the noise, so a perfect flow has equal weights.
        ``chi3`` is Proposition 1 of arXiv 2502.18462: the law of |c| in place of that of c, which adds a factor
        ``|c|^2`` and caps the effective sample size at 60 %. It is here to reproduce that, normalised over c.
        ``fitted`` is the normal distribution with `mean` and `covariance`; ``gaussian`` until these are known.
    mean, covariance
        Of the orthonormal centre sqrt(n) c of a trained flow's draws, (3,) nm and (3, 3) nm^2.
    """

    n_atoms: int
    scale: Tensor
    com: str = "gaussian"
    mean: Tensor | None = None
    covariance: Tensor | None = None

    def __post_init__(self) -> None:
        if self.com not in COM_CHOICES:
            raise InputError(f"tarflow: com: got {self.com!r}; the laws of the centre are {', '.join(COM_CHOICES)}")

    @classmethod
    def from_data(cls, x: Tensor, weights: Tensor, com: str = "gaussian") -> Self:
        """Take the scale of weighted conformations (m, n, 3) nm."""
        return cls(x.shape[1], _spread(centred(x.double()), weights), com)

    @property
    def mask(self) -> Tensor:
        """Every coordinate of every atom."""
        return torch.ones(self.n_atoms, 3, dtype=torch.bool)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Divide by the scale."""
        return x / self.scale.to(x), -self._log_volume(x)

    def inverse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply by the scale."""
        return tokens * self.scale.to(tokens), self._log_volume(tokens)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Centre, turn uniformly, then move the centre at random."""
        noise = torch.randn(len(x), 1, 3, generator=generator, dtype=x.dtype).to(x.device)
        return randomly_turned(x, generator) + noise * self.scale.to(x) / math.sqrt(self.n_atoms)

    def log_gauge(self, x: Tensor) -> Tensor:
        """Law of the centre; its width is fixed, never that of a batch."""
        if self.mean is not None and self.covariance is not None:
            law = MultivariateNormal(self.mean.to(x.device), self.covariance.to(x.device), validate_args=False)
            return law.log_prob(self._centre(x))
        scale = self.scale.to(x.device)
        square = self._centre(x).square().sum(-1) / scale.square()
        log_gauge = -0.5 * square - 1.5 * torch.log(2.0 * math.pi * scale.square())
        return log_gauge + torch.log(square / 3.0) if self.com == "chi3" else log_gauge

    def fitted(self, x: Tensor) -> Self:
        """Take the law of the centre from draws `x` (m, n, 3) nm of the flow, which must not be weighted with it.

        Any law leaves all averages exact; this one also takes out what the flow has learnt wrong of the centre.

        Raises
        ------
        InputError
            For less than a hundred finite conformations.
        """
        centre = self._centre(x)
        centre = centre[torch.isfinite(centre).all(-1)]
        if len(centre) < LEAST_CENTRES:
            raise InputError(f"tarflow: com fitted: {len(centre)} finite draws; give at least {LEAST_CENTRES}")
        return replace(self, mean=centre.mean(0), covariance=torch.cov(centre.T))

    def tensors(self) -> dict[str, Tensor]:
        """Return the scale, and the fitted law of the centre."""
        law = {"mean": self.mean, "covariance": self.covariance}
        return {"scale": self.scale} | {name: value for name, value in law.items() if value is not None}

    def _centre(self, x: Tensor) -> Tensor:
        return math.sqrt(self.n_atoms) * x.double().mean(1)

    def _log_volume(self, x: Tensor) -> Tensor:
        return (3 * self.n_atoms * torch.log(self.scale)).to(x.device).expand(len(x))


@dataclass(frozen=True, eq=False)
class MeanFreeGauge:
    """The 3n - 3 coordinates of an orthonormal basis without the centre of mass; data are turned at random.

    No density is given to the centre, but tokens are differences, not atoms.

    Attributes
    ----------
    n_atoms, scale
        Atoms; nm per network unit.
    """

    n_atoms: int
    scale: Tensor

    @classmethod
    def from_data(cls, x: Tensor, weights: Tensor) -> Self:
        """Take the scale of weighted conformations (m, n, 3) nm."""
        return cls(x.shape[1], _spread(mean_free_basis(x.shape[1]) @ x.double(), weights))

    @property
    def mask(self) -> Tensor:
        """Every coordinate of every difference."""
        return torch.ones(self.n_atoms - 1, 3, dtype=torch.bool)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project on the basis and divide by the scale."""
        return mean_free_basis(self.n_atoms).to(x) @ x / self.scale.to(x), -self._log_volume(x)

    def inverse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations with their centre at the origin."""
        return mean_free_basis(self.n_atoms).to(tokens).T @ tokens * self.scale.to(tokens), self._log_volume(tokens)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Centre and turn uniformly."""
        return randomly_turned(x, generator)

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the scale."""
        return {"scale": self.scale}

    def _log_volume(self, x: Tensor) -> Tensor:
        return ((3 * self.n_atoms - 3) * torch.log(self.scale)).to(x.device).expand(len(x))


def _spread(deviation: Tensor, weights: Tensor) -> Tensor:
    """Root of the weighted mean square over conformations and coordinates."""
    return torch.sqrt(weights @ deviation.square().mean((1, 2)))


GAUGES = ("soft", "meanfree", "frame", "local")


def new_gauge(
    kind: str, topology: Topology, x: Tensor, weights: Tensor, com: str = "gaussian", frame: Frame | None = None
) -> Gauge:
    """Make a gauge of a kind from conformations `x` (m, n, 3) nm with weights (m,) of sum one.

    Raises
    ------
    InputError
        For an unknown kind, or data that it cannot use.
    """
    match kind:
        case "soft":
            return SoftGauge.from_data(x, weights, com)
        case "meanfree":
            return MeanFreeGauge.from_data(x, weights)
        case "frame":
            return FrameGauge.from_data(topology, x, weights, frame)
        case "local":
            return FrameGauge.local_from_data(topology, x, weights)
    raise InputError(f"tarflow: gauge: got {kind!r}; the gauges are {', '.join(GAUGES)}")


def stored_gauge(kind: str, topology: Topology, tensors: dict[str, Tensor], com: str) -> Gauge:
    """Rebuild a gauge from its `tensors`."""
    n_atoms = topology.n_atoms
    match kind:
        case "soft":
            return SoftGauge(n_atoms, tensors["scale"], com, tensors.get("mean"), tensors.get("covariance"))
        case "meanfree":
            return MeanFreeGauge(n_atoms, tensors["scale"])
        case "frame" | "local":
            first, second, third = tensors["frame"].tolist()
            local = LocalCoordinates(topology) if kind == "local" else None
            return FrameGauge((first, second, third), tensors["centre"], tensors["axes"], local)
    raise InputError(f"tarflow: gauge: got {kind!r}; the gauges are {', '.join(GAUGES)}")
