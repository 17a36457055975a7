"""Recipe `split-flow`: a split-channel flow over reduced internal coordinates, completed to all atoms.

``q(x) = q(y) q(c | y) |d(y, c) / dx|``: the learnt core has the free coordinates y, a completion the frozen ones c, so
that weights for the unconstrained Boltzmann distribution are exact. The slice at c = c0, on which the paper trains
(arXiv 2401.04246), is a distribution of its own, with its own target.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from gibbsian.chem.residues import symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import wrap
from gibbsian.coords.permutations import random_relabelling
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.models.completion import FlowCompletion, GaussianCompletion, complete, completed_log_prob
from gibbsian.models.completion_fit import linear_gaussian
from gibbsian.models.internal_flow import InternalFlow
from gibbsian.models.split_config import SplitConfig
from gibbsian.models.split_core import CoreStatistics, SplitCore
from gibbsian.models.storage import read_tensors, write_tensors

FORMAT = "gibbsian-split-flow-3"
STATISTICS_FRAMES = 20_000
Completing = Literal["linear-gaussian", "flow"]
_TURN = 2.0 * math.pi


@dataclass(frozen=True)
class SplitFlowConfig(SplitConfig):
    """Sizes of the core, and what completes it.

    Attributes
    ----------
    rotors
        Whether torsions that turn hydrogens only are free.
    completion
        Law of the frozen coordinates: a Gaussian with a mean linear in functions of the free ones, or a flow on top.

    Raises
    ------
    InputError
        As `SplitConfig`, or if the completion is unknown.
    """

    rotors: bool = True
    completion: Completing = "linear-gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.completion not in get_args(Completing):
            known = " or ".join(get_args(Completing))
            raise InputError(f"split flow: completion: got {self.completion!r}; choose {known}")


class SplitFlow(InternalFlow):
    """Exact-density generator of all-atom conformations of one chain (a `Proposal`).

    Parameters
    ----------
    coordinates
        Which coordinates are free.
    statistics
        Of the free coordinates.
    completion
        Law of the frozen ones.
    c0
        (m,) frozen coordinates of the slice.
    config
        Sizes.
    """

    c0: Tensor

    def __init__(
        self,
        coordinates: ReducedCoordinates,
        statistics: CoreStatistics,
        completion: GaussianCompletion | FlowCompletion,
        c0: Tensor,
        config: SplitFlowConfig,
    ) -> None:
        super().__init__()
        self.coordinates, self.config, self.statistics = coordinates, config, statistics
        self.topology, self.n_atoms = coordinates.topology, coordinates.n_atoms
        self.core = SplitCore(coordinates.variables, statistics, config)
        self.completion = completion
        self.register_buffer("c0", c0.double())
        self._periodic = torch.from_numpy(coordinates.variables.periodic)
        sd = torch.where(self._periodic, _TURN, statistics.sd)
        self._mean, self._unit = torch.where(self._periodic, 0.0, statistics.mean), sd
        self._log_scale = -float(sd.log().sum())
        self.eval()

    @classmethod
    def from_data(
        cls,
        topology: Topology,
        x: Tensor,
        log_w: Tensor | None = None,
        config: SplitFlowConfig = SplitFlowConfig(),
        seed: int = 0,
    ) -> Self:
        """Make an untrained flow with the statistics of weighted conformations `x` (n, n_atoms, 3) nm."""
        stride = -(-len(x) // STATISTICS_FRAMES)
        x, log_w = x[::stride], torch.zeros(len(x[::stride])) if log_w is None else log_w[::stride]
        x = random_relabelling(x, symmetry_groups(topology), torch.Generator().manual_seed(seed)).double()
        coordinates = ReducedCoordinates(topology, config.rotors)
        y, _ = coordinates.from_x(x)
        weights = torch.softmax(log_w.double(), 0)
        mean = weights @ y
        sd = (weights @ (y - mean).square()).sqrt()
        periodic = torch.from_numpy(coordinates.variables.periodic)
        v = torch.where(periodic, torch.remainder(y / _TURN, 1.0), (y - mean) / sd)
        gaussian = linear_gaussian(coordinates, x, log_w)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            completion = FlowCompletion(gaussian) if config.completion == "flow" else gaussian
            statistics = CoreStatistics.fit(v, mean, sd, log_w)
            return cls(coordinates, statistics, completion, gaussian.centre.clone(), config)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm in the mean-free orthonormal measure, (B,) float64; -inf outside."""
        y, rest = completed_log_prob(self.coordinates, self.completion, x)
        return torch.where(torch.isfinite(rest), self.log_prob_free(y) + rest, -torch.inf)

    def log_prob_free(self, y: Tensor) -> Tensor:
        """Log density of free coordinates (B, n), rad, in the measure dy: (B,) float64."""
        scaled = (y - self._mean) / self._unit
        v = torch.where(self._periodic, torch.remainder(scaled, 1.0), scaled)
        return self.core.log_prob(v.to(self._dtype)).double() + self._log_scale

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood (B,), with dropout if the flow has any; inf outside the support."""
        if self.config.dropout == 0:
            return -self.log_prob(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            self.core.train()
            try:
                return -self.log_prob(x)
            finally:
                self.core.eval()

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations differentiably (n, n_atoms, 3) and log q of the generating path.

        Draws whose free angles leave (0, pi) are drawn again; each has a probability below 1e-9.
        """
        y, log_q = self._draw(n, generator)
        return complete(self.coordinates, self.completion, y, log_q, generator)

    def rsample_slice(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations with frozen coordinates at c0, and what stands for log q on the slice.

        The second is ``log q(y) - sum log sin a`` over free angles: with the energy of the conformation it makes the
        integrand of reverse KL to the slice's Boltzmann distribution, but for a constant.
        """
        y, log_q = self._draw(n, generator)
        x = self.coordinates.to_x(y, self.c0)
        return x - x.mean(1, keepdim=True), log_q - self.coordinates.log_jacobian_free(y)

    def sample_free(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw free coordinates (n, number of variables), rad, and their log density (n,) in the measure dy."""
        with torch.no_grad():
            y, _ = self._draw(n, generator)
            return y, self.log_prob_free(y)

    def save(self, path: Path | str) -> None:
        """Write the flow, its statistics and its molecule to one safetensors file."""
        header = {"format": FORMAT, "topology": self.topology.to_dict(), "config": asdict(self.config)}
        statistics = {f"statistics.{name}": tensor for name, tensor in self.statistics.tensors().items()}
        write_tensors(Path(path), statistics | self.state_dict(), header)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a flow written by `save`.

        Raises
        ------
        InputError
            If the file is missing, damaged or not a split flow.
        """
        tensors, header = read_tensors(Path(path), FORMAT)
        given: dict[str, Any] = header["config"]
        config = SplitFlowConfig(**given)
        coordinates = ReducedCoordinates(Topology.from_dict(header["topology"]), config.rotors)
        names = ("mean", "sd", "centre", "concentration")
        statistics = CoreStatistics(*(tensors.pop(f"statistics.{name}").clone() for name in names))
        prefix = "completion.base." if config.completion == "flow" else "completion."
        # Copies are aligned in memory, without which the last bits of products may differ.
        parts = (tensors[prefix + name].clone() for name in ("centre", "regression", "cholesky"))
        gaussian = GaussianCompletion(coordinates, *parts)
        completion = FlowCompletion(gaussian) if config.completion == "flow" else gaussian
        flow = cls(coordinates, statistics, completion, tensors["c0"], config)
        flow.load_state_dict(tensors)
        return flow

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.core.parameters()).dtype

    def _draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Free coordinates (n, number of variables) with valid angles, and log q (n,), float64."""
        v, log_q = self.core.sample(n, generator)
        y = v.double() * self._unit + self._mean
        y = torch.where(self._periodic, wrap(y), y)
        inside = (self._periodic | ((y > 0.0) & (y < math.pi))).all(-1)
        log_q = log_q.double() + self._log_scale
        if bool(inside.all()):
            return y, log_q
        more, more_log_q = self._draw(int((~inside).sum()), generator)
        return torch.cat([y[inside], more]), torch.cat([log_q[inside], more_log_q])
