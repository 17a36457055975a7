"""The default recipe: a hierarchical coupling flow of rational-quadratic splines over full internal coordinates.

``q(x) = q(torsions) q(angles | torsions) q(bonds | angles, torsions) |dy / dx|``. Proper torsions live on the full
circle, everything else is whitened with the statistics of the training data and modelled on the line.

A flow with `SplineConfig.temperatures` holds the ensembles of a whole range: its whitened variables are scaled by
sqrt(T / T_reference), the law of harmonic motion, and its conditioners see the inverse temperature.
"""

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from gibbsian.chem.residues import symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import InternalCoordinates
from gibbsian.coords.permutations import random_relabelling
from gibbsian.errors import InputError
from gibbsian.models.internal_flow import InternalFlow
from gibbsian.models.layers.coupling import SplineCoupling, count_features, features
from gibbsian.models.layers.masked import SplineAutoregression
from gibbsian.models.standardise import UNSCALED, Standardise, Statistics, fit_statistics
from gibbsian.models.storage import read_tensors, write_tensors

Layers = Literal["coupling", "autoregressive"]

FORMAT = "gibbsian-spline-1"
STATISTICS_FRAMES = 50_000
STATISTICS = ("centre", "regression", "cholesky")
_HEAT_FEATURES = 2
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SplineConfig:
    """Sizes of the flow.

    One training step on 256 conformations costs one core about 30 ms for 22 atoms, 70 ms for 42 and 190 ms for 138;
    1,000 samples with their density cost 0.1, 0.15 and 2 s.

    Attributes
    ----------
    couplings
        Coupling layers for torsions, angles and bonds; even numbers where they are couplings.
    bins
        Bins per spline.
    hidden, depth
        Width and number of hidden layers of each conditioner.
    bound
        Splines of whitened variables act on [-bound, bound] standard deviations.
    mask_seed
        Seed of the random halves.
    temperatures
        K, the reference and the highest temperature of a flow that holds all between them; None for that of the data.
    layers
        ``coupling``: half of the variables depends on the other half. ``autoregressive``: each depends on all before
        it; a layer does more and a draw costs more. `couplings` counts layers of either kind.

    Raises
    ------
    InputError
        If the temperatures are not positive and rising, or there are no such layers.
    """

    couplings: tuple[int, int, int] = (12, 2, 2)
    bins: int = 8
    hidden: int = 64
    depth: int = 2
    bound: float = 5.0
    mask_seed: int = 0
    temperatures: tuple[float, float] | None = None
    layers: Layers = "coupling"

    def __post_init__(self) -> None:
        if self.temperatures is not None and not 0.0 < self.temperatures[0] < self.temperatures[1] < math.inf:
            raise InputError(
                f"spline flow: temperatures: got {tuple(self.temperatures)}; give two, positive and rising, in K"
            )
        if self.layers not in get_args(Layers):
            raise InputError(f"spline flow: layers: got {self.layers!r}; choose {' or '.join(get_args(Layers))}")


class Stack(nn.Module):
    """Layers one after the other: couplings in pairs, half of the variables and the other half, or autoregressions."""

    def __init__(self, periodic: Tensor, n_context: int, n_couplings: int, config: SplineConfig) -> None:
        super().__init__()
        sizes = (n_context, config.bins, config.hidden, config.depth, config.bound)
        layers: list[nn.Module]
        if config.layers == "autoregressive":
            order = torch.arange(len(periodic))
            orders = [order if k % 2 == 0 else order.flip(0) for k in range(n_couplings)]
            layers = [SplineAutoregression(periodic, order, *sizes) for order in orders]
        else:
            masks = _masks(periodic, n_couplings, config.mask_seed)
            layers = [SplineCoupling(periodic, half, *sizes) for mask in masks for half in (mask, ~mask) if half.any()]
        self.layers = nn.ModuleList(layers)

    def forward(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return base variables (B, n) of data variables, and the log-determinant (B,)."""
        log_det = v.new_zeros(len(v))
        for layer in self.layers:
            v, change = layer(v, context)
            log_det = log_det + change
        return v, log_det

    def inverse(self, v: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return data variables (B, n) of base variables, and the log-determinant (B,)."""
        log_det = v.new_zeros(len(v))
        for layer in reversed(self.layers):
            assert isinstance(layer, SplineCoupling | SplineAutoregression)
            v, change = layer.inverse(v, context)
            log_det = log_det + change
        return v, log_det


def _masks(periodic: Tensor, n_couplings: int, seed: int) -> list[Tensor]:
    """Halves of each kind of variable: even against odd rank first, random after that."""
    if n_couplings < 2 or n_couplings % 2:
        raise InputError(f"spline flow: couplings come in pairs, got {n_couplings}; give an even number")
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for pair in range(n_couplings // 2):
        mask = torch.zeros(len(periodic), dtype=torch.bool)
        for offset, kind in enumerate((periodic, ~periodic)):
            columns = torch.arange(len(periodic))[kind]
            if pair > 0:
                columns = columns[torch.randperm(len(columns), generator=generator)]
            mask[columns[(pair + offset) % 2 :: 2]] = True
        masks.append(mask)
    return masks


class SplineFlow(InternalFlow):
    """Exact-density generator of all-atom conformations of one peptide (a `Proposal`).

    Parameters
    ----------
    topology
        Molecule.
    statistics
        From `SplineFlow.from_data` or a file.
    config
        Sizes.

    Attributes
    ----------
    temperature
        K, what the flow is at: its reference, or that of `at`, also one per conformation. None where the flow knows no
        temperature but that of its data.
    """

    def __init__(self, topology: Topology, statistics: Statistics, config: SplineConfig = SplineConfig()) -> None:
        super().__init__()
        self.topology, self.config = topology, config
        self.n_atoms = topology.n_atoms
        self.standardise = Standardise(InternalCoordinates(topology), statistics)
        layout = self.standardise.layout
        self._sizes = (len(layout.proper), len(layout.narrow), layout.n_angles, layout.n_bonds)
        p, n, a, b = self._sizes
        on_circle = torch.arange(p + n) < p
        line = torch.zeros(max(a, b), dtype=torch.bool)
        self.temperature: float | Tensor | None = config.temperatures and config.temperatures[0]
        heat = 0 if config.temperatures is None else _HEAT_FEATURES
        context = count_features(p, n) + heat
        self.torsions = Stack(on_circle, heat, config.couplings[0], config)
        self.angles = Stack(line[:a], context, config.couplings[1], config)
        self.bonds = Stack(line[:b], context + a, config.couplings[2], config)

    @classmethod
    def from_data(
        cls,
        topology: Topology,
        x: Tensor,
        log_w: Tensor | None = None,
        config: SplineConfig = SplineConfig(),
        seed: int = 0,
    ) -> Self:
        """Make an untrained flow with the statistics of weighted conformations `x` (n, n_atoms, 3) nm.

        They are relabelled by random symmetries first, as in training, and thinned to 50,000.
        """
        stride = -(-len(x) // STATISTICS_FRAMES)
        x, log_w = x[::stride], None if log_w is None else log_w[::stride]
        x = random_relabelling(x, symmetry_groups(topology), torch.Generator().manual_seed(seed))
        statistics = fit_statistics(InternalCoordinates(topology), x, log_w)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(topology, statistics, config)

    def at(self, temperature: float | Tensor) -> Self:
        """Return this flow at another temperature (K), or at one per conformation, (B,), for batches of that size.

        It shares all weights with this flow, which stays at its own temperature.

        Raises
        ------
        InputError
            If the flow does not hold the temperature.
        """
        limits = self.config.temperatures
        if limits is None:
            raise InputError(
                "spline flow: holds one temperature only; train with model.temperatures, as the recipe thermal does"
            )
        asked = torch.as_tensor(temperature, dtype=torch.float64)
        low, high = limits[0] * (1.0 - _ROUNDING), limits[1] * (1.0 + _ROUNDING)
        outside = asked[~((asked >= low) & (asked <= high))]
        if len(outside):
            held = f"{limits[0]:g} to {limits[1]:g} K"
            raise InputError(f"spline flow: got {float(outside[0]):g} K; it holds {held}, choose among these")
        moved = copy.copy(self)
        moved.temperature = temperature
        return moved

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm in the mean-free orthonormal measure, (B,) float64; -inf outside."""
        turns, z, log_det = self.standardise.forward(x.double(), self._log_width())
        parameter = next(self.parameters())
        log_q = self._log_q(turns.to(parameter.dtype), z.to(parameter.dtype))
        return torch.where(torch.isfinite(log_det), log_q.double() + log_det, -torch.inf)

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations differentiably (n, n_atoms, 3) and log q of the generating path, for reverse KL.

        Draws that leave the domain of a coordinate are drawn again; each has a probability below 1e-9 per variable.
        The flow must be at one temperature, not at one per conformation.
        """
        dtype = next(self.parameters()).dtype
        p, narrow, a, b = self._sizes
        turns = torch.rand(n, p, generator=generator, dtype=dtype)
        noise = torch.randn(n, narrow + a + b, generator=generator, dtype=dtype)
        turns, z, log_q = self._generate(turns, noise)
        x, log_j, inside = self.standardise.inverse(turns.double(), z.double(), self._log_width())
        log_q = log_q.double()
        if not bool(inside.all()):
            more, more_log_q = self.rsample(int((~inside).sum()), generator)
            kept = x[inside] - x[inside].mean(1, keepdim=True)
            return torch.cat([kept, more]), torch.cat([(log_q - log_j)[inside], more_log_q])
        return x - x.mean(1, keepdim=True), log_q - log_j

    def latent_circular(self) -> Tensor:
        """Which latent variables are turns on the circle: those of the proper torsions, (d,) bool."""
        p, narrow, a, b = self._sizes
        return torch.arange(p + narrow + a + b) < p

    @torch.no_grad()
    def to_latent(self, x: Tensor) -> Tensor:
        """Return turns and normal variables (B, d), float64, of `x` (B, n_atoms, 3) nm; NaN outside the support."""
        turns, z, log_det = self.standardise.forward(x.double(), self._log_width())
        dtype = next(self.parameters()).dtype
        latent = torch.cat(self._encode(turns.to(dtype), z.to(dtype))[:3], -1).double()
        return torch.where(torch.isfinite(log_det)[:, None], latent, torch.nan)

    @torch.no_grad()
    def from_latent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations (B, n_atoms, 3) nm, centred, and log q (B,) of latent variables (B, d)."""
        p = self._sizes[0]
        dtype = next(self.parameters()).dtype
        turns, real, _ = self._generate(z[:, :p].to(dtype), z[:, p:].to(dtype))
        x, _, inside = self.standardise.inverse(turns.double(), real.double(), self._log_width())
        sound = inside & torch.isfinite(x).all(-1).all(-1)
        x = torch.where(sound[:, None, None], x - x.mean(1, keepdim=True), torch.nan)
        log_q = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        log_q[sound] = self.log_prob(x[sound])
        return x, log_q

    def save(self, path: Path | str) -> None:
        """Write the flow, its statistics and its molecule to one safetensors file."""
        header = {"format": FORMAT, "topology": self.topology.to_dict(), "config": asdict(self.config)}
        statistics = self.standardise.statistics.tensors()
        tensors = {f"statistics.{name}": tensor for name, tensor in statistics.items()}
        write_tensors(Path(path), tensors | self.state_dict(), header)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a flow written by `save`.

        Raises
        ------
        InputError
            If the file is missing, damaged or not a spline flow.
        """
        tensors, header = read_tensors(Path(path), FORMAT)
        statistics = Statistics(**{name: tensors.pop(f"statistics.{name}") for name in STATISTICS})
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in header["config"].items()}
        flow = cls(Topology.from_dict(header["topology"]), statistics, SplineConfig(**sizes))
        flow.load_state_dict(tensors)
        return flow

    def _log_q(self, turns: Tensor, z: Tensor) -> Tensor:
        base_t, base_a, base_b, log_det = self._encode(turns, z)
        return log_det + _log_normal(torch.cat([base_t[:, self._sizes[0] :], base_a, base_b], -1))

    def _encode(self, turns: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return base variables of torsions, angles and bonds, and the log-determinant (B,)."""
        _, n, a, _ = self._sizes
        narrow, angles, bonds = z.split([n, a, z.shape[1] - n - a], -1)
        torsions = torch.cat([turns, narrow], -1)
        context = self._context(torsions)
        base_t, d_t = self.torsions(torsions, self._heat(torsions))
        base_a, d_a = self.angles(angles, context)
        base_b, d_b = self.bonds(bonds, torch.cat([context, angles], -1))
        return base_t, base_a, base_b, d_t + d_a + d_b

    def _generate(self, turns: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p, n, a, b = self._sizes
        base_n, base_a, base_b = noise.split([n, a, b], -1)
        torsions, d_t = self.torsions.inverse(torch.cat([turns, base_n], -1), self._heat(noise))
        context = self._context(torsions)
        angles, d_a = self.angles.inverse(base_a, context)
        bonds, d_b = self.bonds.inverse(base_b, torch.cat([context, angles], -1))
        z = torch.cat([torsions[:, p:], angles, bonds], -1)
        return torsions[:, :p], z, _log_normal(noise) - d_t - d_a - d_b

    def _context(self, torsions: Tensor) -> Tensor:
        columns = torch.arange(torsions.shape[1])
        known = features(torsions, columns[: self._sizes[0]], columns[self._sizes[0] :])
        return torch.cat([known, self._heat(torsions)], -1)

    def _heat(self, like: Tensor) -> Tensor:
        """Return the temperature as the conditioners see it, (B, 2) of the dtype of `like` (B, ...); else (B, 0)."""
        if self.config.temperatures is None or self.temperature is None:
            return like[:, :0]
        cold, hot = (1.0 / t for t in self.config.temperatures)
        inverse = 1.0 / torch.as_tensor(self.temperature, dtype=torch.float64)
        s = ((2.0 * inverse - cold - hot) / (cold - hot)).to(like.dtype).expand(len(like))
        return torch.stack([s, s.square()], -1)

    def _log_width(self) -> Tensor:
        """Log of sqrt(T / T_reference), (1 or B, 1) float64."""
        if self.config.temperatures is None or self.temperature is None:
            return UNSCALED
        ratio = torch.as_tensor(self.temperature, dtype=torch.float64) / self.config.temperatures[0]
        return 0.5 * ratio.log().reshape(-1, 1)


def _log_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2.0 * math.pi)).sum(-1)
