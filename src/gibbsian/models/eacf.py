"""SE(3) equivariant augmented coupling flow of one molecule (arXiv 2308.10364).

Each conformation x gets auxiliary atoms a ~ pi(a | x) = N(x, noise^2), and a coupling flow has the density q(x, a) of
both together: the atoms are moved given the auxiliary ones and these given the atoms, by equivariant maps whose
Jacobian is known. Either set in turn has its centre at the origin ("ShiftCoM"), so translations do not count.

The density of x alone is an integral, q(x) = E_pi[q(x, a) / pi(a | x)], of which only estimates are known. Weights need
it not: with the target exp(-u(x)) pi(a | x) over both,

    w = exp(-u(x)) pi(a | x) / q(x, a),   (x, a) ~ q,     E w = Z exactly

so `log_q` of a sample is log q(x, a) - log pi(a | x) with the a that it was made with.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from gibbsian.chem.equivalence import atom_classes
from gibbsian.chem.topology import Topology
from gibbsian.coords.gauge import centred
from gibbsian.errors import InputError
from gibbsian.models.eacf_config import PRESETS, EacfConfig
from gibbsian.models.layers.eacf_coupling import SphericalCoupling
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.models.thinning import thinned

FORMAT = "gibbsian-eacf-1"
DEFAULT = PRESETS["small"].config
LEAST_ATOMS = 3
CHUNK = 512
SEED_OF_DRAWS = 20


class EACF(nn.Module):
    """Augmented coupling flow: samples with exact joint weights, and estimates of the density of a conformation.

    Parameters
    ----------
    topology
        Molecule of at least three atoms.
    scale
        nm per network unit, a float64 scalar.
    config
        Sizes and choices.

    Raises
    ------
    InputError
        For one or two atoms, between which no plane can be laid.
    """

    def __init__(self, topology: Topology, scale: Tensor, config: EacfConfig = DEFAULT) -> None:
        super().__init__()
        if topology.n_atoms < LEAST_ATOMS:
            raise InputError(f"eacf: {topology.n_atoms} atoms; it needs at least {LEAST_ATOMS}, choose another recipe")
        self.topology, self.config, self.n_atoms = topology, config, topology.n_atoms
        self.scale = float(scale)
        classes = torch.from_numpy(atom_classes(topology))
        sizes = (classes, config.width, config.depth, config.reach, config.bins)
        self.couplings = nn.ModuleList(SphericalCoupling(*sizes) for _ in range(2 * config.layers))

    @classmethod
    def from_data(
        cls,
        topology: Topology,
        x: Tensor,
        log_w: Tensor | None = None,
        config: EacfConfig = DEFAULT,
        seed: int = 0,
    ) -> Self:
        """Make an untrained flow with the length scale of weighted conformations `x` (n, n_atoms, 3) nm.

        Raises
        ------
        InputError
            If there are fewer than ten conformations.
        """
        x, weights = thinned(x, log_w)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(topology, torch.sqrt(weights @ centred(x.double()).square().mean((1, 2))), config)

    @property
    def density(self) -> Literal["joint", "estimate"]:
        """What `log_q` of samples is; samplers that need the density of a conformation alone must refuse both."""
        return "joint" if self.config.weights == "joint" else "estimate"

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss (B,): -log q(x, a) + log pi(a | x) with one draw of a, on average at least -log q(x)."""
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        parts = zip(x.split(CHUNK), noise.split(CHUNK), strict=True)
        return torch.cat([-self.log_joint(*part) for part in parts])

    def log_joint(self, x: Tensor, noise: Tensor) -> Tensor:
        """Log of q(x, a) / pi(a | x), (B,) float64, of `x` (B, n, 3) nm and a standing off by `noise` (B, n, 3).

        `noise` is in units of its standard deviation; the density of x is in the mean-free orthonormal measure, nm.
        """
        y = centred(x.to(self._device, torch.float64)) / self.scale
        noise = noise.to(y)
        points, offsets, log_det = self._to_base(y, y + self.config.noise * noise)
        # The constants of both normal laws of the auxiliary atoms, and their unit of length, are the same.
        auxiliary = 0.5 * (noise.square() - (offsets / self.config.noise).square()).sum((1, 2))
        log_q = self._log_normal(points) + auxiliary + log_det - self._log_volume
        return torch.where(torch.isfinite(log_q), log_q, -torch.inf).to(x.device)

    def log_prob(self, x: Tensor) -> Tensor:
        """Estimate of the log density (B,), float64, of `x` (B, n, 3) nm from `config.draws` auxiliary conformations.

        The mean of q(x, a) / pi(a | x) is right on average, its logarithm too small. All conformations take
        the same offsets, so equal ones have equal values.
        """
        generator = torch.Generator().manual_seed(SEED_OF_DRAWS)
        offsets = torch.randn(self.config.draws, 1, self.n_atoms, 3, generator=generator, dtype=torch.float64)
        values = [
            torch.stack([self.log_joint(part, noise.expand(part.shape)) for noise in offsets])
            for part in x.split(CHUNK)
        ]
        return torch.logsumexp(torch.cat(values, 1), 0) - math.log(self.config.draws)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Estimated log density (B,) and its gradient with respect to x (B, n, 3) in 1/nm, float64."""
        with torch.enable_grad():
            leaf = x.detach().double().requires_grad_()
            log_q = self.log_prob(leaf)
            (grad,) = torch.autograd.grad(log_q.sum(), leaf)
        return log_q.detach(), grad

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero (B,): the density is over conformations without a centre."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training conformations as they are: the flow sees neither position nor orientation."""
        return x

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm and log q (n,), see `EacfConfig.weights`, both float64."""
        x, log_q = self.rsample(n, generator)
        return x, log_q if self.config.weights == "joint" else self.log_prob(x)

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations (n, n_atoms, 3) nm and the joint log q (n,), differentiable in the weights."""
        parts = [self._generate(min(CHUNK, n - start), generator) for start in range(0, n, CHUNK)]
        x, log_q, _ = zip(*parts, strict=True)
        return torch.cat(x), torch.cat(log_q)

    def save(self, path: Path | str) -> None:
        """Write the flow, its scale and its molecule to one safetensors file."""
        header = {"format": FORMAT, "topology": self.topology.to_dict(), "config": asdict(self.config)}
        write_tensors(Path(path), {"scale": torch.tensor(self.scale, dtype=torch.float64)} | self.state_dict(), header)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a flow written by `save`.

        Raises
        ------
        InputError
            If the file is missing, damaged or not an EACF.
        """
        tensors, header = read_tensors(Path(path), FORMAT)
        flow = cls(Topology.from_dict(header["topology"]), tensors.pop("scale"), EacfConfig(**header["config"]))
        flow.load_state_dict(tensors)
        return flow

    def _generate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Conformations in nm, joint log q, and offsets of the auxiliary atoms in units of `noise`."""
        shape = (n, self.n_atoms, 3)
        points, offsets = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        points, offsets = centred(points).to(self._device), offsets.to(self._device)
        y, b, log_det = self._from_base(points, self.config.noise * offsets)
        noise = (b - y) / self.config.noise
        auxiliary = 0.5 * (noise.square() - offsets.square()).sum((1, 2))
        log_q = self._log_normal(points) + auxiliary - log_det - self._log_volume
        return (y * self.scale).to(generator.device), log_q.to(generator.device), noise

    def _to_base(self, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `_from_base`; the log-determinant is that of this direction."""
        log_det = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for index in reversed(range(self.config.layers)):
            a, x = _shifted(a, x)
            x, change = self.couplings[2 * index + 1](x, a, inverse=True)
            x, a = _shifted(x, a)
            a, other = self.couplings[2 * index](a, x, inverse=True)
            log_det = log_det + change + other
        return x, a - x, log_det

    def _from_base(self, points: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Atoms (B, n, 3) without a centre and auxiliary atoms from normal variables; log-determinant (B,)."""
        x, a = points, points + offsets
        log_det = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for index in range(self.config.layers):
            a, change = self.couplings[2 * index](a, x)
            a, x = _shifted(a, x)
            x, other = self.couplings[2 * index + 1](x, a)
            x, a = _shifted(x, a)
            log_det = log_det + change + other
        return x, a, log_det

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def _log_volume(self) -> float:
        return (3 * self.n_atoms - 3) * math.log(self.scale)

    def _log_normal(self, points: Tensor) -> Tensor:
        """Log density (B,) of standard normal points without a centre."""
        return -0.5 * points.square().sum((1, 2)) - 1.5 * (self.n_atoms - 1) * math.log(2.0 * math.pi)


def _shifted(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Move both so that the first has its centre at the origin; volumes do not change, whichever had it before."""
    centre = first.mean(1, keepdim=True)
    return first - centre, second - centre
