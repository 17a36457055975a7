"""Equivariant continuous normalizing flows of one molecule: ECNF (arXiv 2406.14426) and ECNF++ (arXiv 2502.18462).

    dx/dt = v(x, t),  x(0) = z ~ N(0, 1) without a centre,   log q(x(1)) = log N(z) - int_0^1 div v dt

v is an `EquivariantField`, so q does not change under rotation, reflection and exchange of twins. It is trained by flow
matching: for data x and noise z, v at (1 - t) z + t x is fitted to x - z, without solving the equation. Coordinates are
centred and divided by one length s. What the flow offers is folded onto the handedness of its data (`models.folded`).
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from gibbsian.chem.equivalence import atom_classes
from gibbsian.chem.topology import Topology
from gibbsian.coords.gauge import centred, mean_free_basis
from gibbsian.errors import InputError
from gibbsian.models.ecnf_config import PRESETS, EcnfConfig
from gibbsian.models.folded import FoldCounts, Handedness
from gibbsian.models.layers.egnn import EquivariantField
from gibbsian.models.layers.egnn_trace import velocity_and_trace
from gibbsian.models.ode import integrate
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.models.thinning import thinned

FORMAT = "gibbsian-ecnf-1"
DEFAULT = PRESETS["small"].config
SAME_HAND = 0.99
"""Least share of the data that must have the hand of the majority at every centre."""
CHUNK = 64
"""Conformations that are integrated together, with the same steps."""
TRAINING_CHUNK = 512
"""Conformations whose loss is computed at once where no gradients are needed."""
TRACE_NUMBERS = 2**24
"""Numbers in the largest array of the trace; more are slower, because they leave the caches."""


class ECNF(nn.Module):
    """Equivariant continuous flow with an exact density, folded onto one handedness (a `LatentProposal`).

    Parameters
    ----------
    topology
        Molecule.
    scale
        nm per network unit, a float64 scalar.
    structure
        (n_atoms, 3), a conformation with the handedness to fold onto.
    config
        Sizes and choices.
    """

    def __init__(self, topology: Topology, scale: Tensor, structure: Tensor, config: EcnfConfig = DEFAULT) -> None:
        super().__init__()
        self.topology, self.config, self.n_atoms = topology, config, topology.n_atoms
        self.scale = float(scale)
        self._structure = structure.double().cpu()
        self.handedness = Handedness.of(topology, self._structure)
        classes = torch.from_numpy(atom_classes(topology))
        self.field = EquivariantField(classes, config.width, config.depth, config.reach)
        self.counts = FoldCounts(0, 0, 0, 0)
        self.evaluations = 0
        """Evaluations of the velocity of one conformation by the solver so far."""

    @classmethod
    def from_data(
        cls,
        topology: Topology,
        x: Tensor,
        log_w: Tensor | None = None,
        config: EcnfConfig = DEFAULT,
        seed: int = 0,
    ) -> Self:
        """Make an untrained flow with the length scale and handedness of weighted conformations `x` (n, n_atoms, 3) nm.

        Raises
        ------
        InputError
            If there are fewer than ten conformations, or they differ in handedness.
        """
        x, weights = thinned(x, log_w)
        x = x.double()
        scale = torch.sqrt(weights @ centred(x).square().mean((1, 2)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(topology, scale, _typical_hand(topology, x), config)

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Flow-matching loss (B,) of conformations (B, n_atoms, 3) nm: mean square error of a velocity's coordinate.

        Noise and times come from `generator`. Source: arXiv 2502.18462, appendix E.2.
        """
        data = self._units(x)
        noise, path_noise = (self._noise(len(x), generator) for _ in range(2))
        t = torch.rand(len(x), generator=generator, dtype=torch.float64).to(data.device)
        at = t[:, None, None]
        path = (1.0 - at) * noise + at * data + self.config.path_noise * path_noise
        size = len(x) if torch.is_grad_enabled() else TRAINING_CHUNK
        dtype = self.field.kinds.dtype
        pairs = zip(path.to(dtype).split(size), t.to(dtype).split(size), strict=True)
        error = torch.cat([self.field(*pair) for pair in pairs]).double() - (data - noise)
        return (error.square().sum((1, 2)) / (3 * self.n_atoms - 3)).to(x.device)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training conformations as they are: the flow sees neither position nor orientation."""
        return x

    def log_gauge(self, x: Tensor) -> Tensor:
        """Zero (B,): the density is over conformations without a centre."""
        return torch.zeros(len(x), dtype=torch.float64, device=x.device)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm and log q (n,), both float64, folded onto one handedness.

        The density is that of the path which made the sample; `log_prob` finds it again up to the solver's tolerance.
        """
        x, log_q = self.sample_unfolded(n, generator)
        x, counts = self.handedness.fold(x)
        self.counts = self.counts + counts
        return x, log_q + self.handedness.log_factor(x)

    @torch.no_grad()
    def sample_unfolded(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the same samples as `sample` before folding, of either hand, and their log q before folding."""
        x, log_q = self._from_noise(self._noise(n, generator))
        return x.to(generator.device), log_q.to(generator.device)

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw as `sample` does, not differentiable.

        Raises
        ------
        InputError
            Where gradients are asked for, which this flow does not have.
        """
        if torch.is_grad_enabled():
            raise InputError("ecnf: samples are not differentiable; set w_kl to 0 in every stage")
        return self.sample(n, generator)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm in the mean-free orthonormal measure, (B,) float64.

        -inf for the wrong handedness and where it is not finite. It is not differentiable; see `log_prob_and_grad`.
        """
        return self._log_prob(x)[1]

    @torch.no_grad()
    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient with respect to x (B, n_atoms, 3) in 1/nm, float64.

        The gradient g of log q_t obeys ``dg/dt = -(dv/dx)^T g - grad div v`` along a path and is -z at its start.
        """
        noise, log_q = self._log_prob(x)
        finite = torch.isfinite(log_q).to(noise.device)
        grad = torch.zeros_like(noise)
        if bool(finite.any()):
            grad[finite] = torch.cat([self._score(part) for part in noise[finite].split(CHUNK)]) / self.scale
        return log_q, grad.to(x.device)

    def latent_circular(self) -> Tensor:
        """Return which of the 3n - 3 latent variables live on the circle: none."""
        return torch.zeros(3 * self.n_atoms - 3, dtype=torch.bool)

    @torch.no_grad()
    def to_latent(self, x: Tensor) -> Tensor:
        """Return latent variables (B, 3n - 3), float64, of conformations (B, n_atoms, 3) nm; NaN for the other hand."""
        inside = torch.isfinite(self.handedness.log_factor(x)) & torch.isfinite(x).all(-1).all(-1)
        z = torch.full((len(x), 3 * self.n_atoms - 3), torch.nan, dtype=torch.float64, device=x.device)
        if bool(inside.any()):
            noise = torch.cat([self._transport(part, 1.0, 0.0) for part in self._units(x[inside]).split(CHUNK)])
            z[inside] = (self._basis @ noise).flatten(1).to(x.device)
        return z

    @torch.no_grad()
    def from_latent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return conformations (B, n_atoms, 3) nm of latent variables (B, 3n - 3), and their `log_prob` (B,), float64.

        They are not folded, because a fold has no inverse: those of the wrong hand have no density.
        """
        noise = self._basis.T @ z.to(self._basis).view(len(z), -1, 3)
        x, log_q = self._from_noise(noise)
        x, log_q = x.to(z.device), log_q.to(z.device)
        return x, log_q + self.handedness.log_factor(x)

    @torch.no_grad()
    def round_trip_error(self, x: Tensor) -> Tensor:
        """Largest change of a coordinate (B,), in network units, of `x` (B, n_atoms, 3) nm taken to noise and back."""
        start = self._units(x)
        parts = [self._transport(self._transport(part, 1.0, 0.0), 0.0, 1.0) for part in start.split(CHUNK)]
        return (torch.cat(parts) - start).abs().amax((1, 2)).to(x.device)

    def save(self, path: Path | str) -> None:
        """Write the flow and its molecule to one safetensors file."""
        header = {"format": FORMAT, "topology": self.topology.to_dict(), "config": asdict(self.config)}
        own = {"scale": torch.tensor(self.scale, dtype=torch.float64), "structure": self._structure}
        write_tensors(Path(path), own | self.state_dict(), header)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a flow written by `save`.

        Raises
        ------
        InputError
            If the file is missing, damaged or not an ECNF.
        """
        tensors, header = read_tensors(Path(path), FORMAT)
        scale, structure = tensors.pop("scale"), tensors.pop("structure")
        flow = cls(Topology.from_dict(header["topology"]), scale, structure, EcnfConfig(**header["config"]))
        flow.load_state_dict(tensors)
        return flow

    @property
    def _basis(self) -> Tensor:
        return mean_free_basis(self.n_atoms).to(self.field.kinds.device)

    @property
    def _log_volume(self) -> float:
        """Log of nm^(3n - 3) per network unit of volume."""
        return (3 * self.n_atoms - 3) * math.log(self.scale)

    def _units(self, x: Tensor) -> Tensor:
        return centred(x.to(self.field.kinds.device, torch.float64)) / self.scale

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal conformations (n, n_atoms, 3) without a centre, float64."""
        z = torch.randn(n, self.n_atoms - 1, 3, generator=generator, dtype=torch.float64)
        return self._basis.T @ z.to(self._basis.device)

    def _log_normal(self, noise: Tensor) -> Tensor:
        return -0.5 * noise.square().sum((1, 2)) - 1.5 * (self.n_atoms - 1) * math.log(2.0 * math.pi)

    def _log_prob(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise (B, n, 3) that leads to `x`, and log q (B,) on the device of `x`; noise is zero where there is none."""
        units = self._units(x)
        log_factor = self.handedness.log_factor(x).to(units)
        inside = torch.isfinite(units).all(-1).all(-1) & torch.isfinite(log_factor)
        noise = torch.zeros_like(units)
        log_q = torch.full_like(log_factor, -torch.inf)
        if bool(inside.any()):
            parts = [self._with_density(part, 1.0, 0.0) for part in units[inside].split(CHUNK)]
            noise[inside], change = (torch.cat(column) for column in zip(*parts, strict=True))
            log_q[inside] = self._log_normal(noise[inside]) - change - self._log_volume + log_factor[inside]
        return noise, torch.where(torch.isfinite(log_q), log_q, -torch.inf).to(x.device)

    def _from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Conformations (B, n, 3) nm and log q (B,), neither folded; NaN and -inf where the noise is not finite."""
        finite = torch.isfinite(noise).all(-1).all(-1)
        x = torch.full_like(noise, torch.nan)
        log_q = noise.new_full((len(noise),), -torch.inf)
        if bool(finite.any()):
            parts = [self._with_density(part, 0.0, 1.0) for part in noise[finite].split(CHUNK)]
            x[finite], change = (torch.cat(column) for column in zip(*parts, strict=True))
            log_q[finite] = self._log_normal(noise[finite]) - change - self._log_volume
        return x * self.scale, log_q

    def _transport(self, x: Tensor, begin: float, end: float) -> Tensor:
        """Move conformations (B, n, 3) along the flow."""

        def derivative(t: Tensor, y: Tensor) -> Tensor:
            self.evaluations += len(y)
            dtype = self.field.kinds.dtype
            return self.field(y.view_as(x).to(dtype), t.to(dtype).expand(len(y))).double().flatten(1)

        y = integrate(derivative, x.flatten(1), begin, end, self.config.tolerance, (3 * self.n_atoms,))
        return y.view_as(x)

    def _with_density(self, x: Tensor, begin: float, end: float) -> tuple[Tensor, Tensor]:
        """Move conformations along the flow; also the integral (B,) of the divergence from time 0 to 1."""

        def derivative(t: Tensor, y: Tensor) -> Tensor:
            self.evaluations += len(y)
            velocity, trace = self._velocity_and_trace(y[:, :-1].view_as(x), t)
            return torch.cat([velocity.flatten(1), trace[:, None]], 1)

        y = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
        y = integrate(derivative, y, begin, end, self.config.tolerance, (3 * self.n_atoms, 1))
        return y[:, :-1].view_as(x), (end - begin) * y[:, -1]

    def _score(self, noise: Tensor) -> Tensor:
        """Gradient (B, n, 3) of the log density where the flow takes `noise`, in network units."""
        size = 3 * self.n_atoms

        def derivative(t: Tensor, y: Tensor) -> Tensor:
            self.evaluations += len(y)
            velocity, change = [], []
            for part in y.split(self._trace_chunk):
                with torch.enable_grad():
                    x = part[:, :size].view(-1, self.n_atoms, 3).detach().requires_grad_(True)
                    v, trace = self._velocity_and_trace(x, t)
                    along = (v * part[:, size:].view_as(v)).sum() + trace.sum()
                velocity.append(v.detach().flatten(1))
                change.append(-torch.autograd.grad(along, x)[0].flatten(1))
            return torch.cat([torch.cat(velocity), torch.cat(change)], 1)

        y = torch.cat([noise.flatten(1), -noise.flatten(1)], 1)
        y = integrate(derivative, y, 0.0, 1.0, self.config.tolerance, (size, size))
        return y[:, size:].view_as(noise)

    @property
    def _trace_chunk(self) -> int:
        return max(1, TRACE_NUMBERS // (self.n_atoms * self.config.width) ** 2)

    def _velocity_and_trace(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity (B, n, 3) and its divergence (B,), float64, at one time."""
        dtype = self.field.kinds.dtype
        parts = [
            velocity_and_trace(self.field, part, t.to(dtype).expand(len(part)))
            for part in x.to(dtype).split(self._trace_chunk)
        ]
        velocity, trace = (torch.cat(column).double() for column in zip(*parts, strict=True))
        return velocity, trace


def _typical_hand(topology: Topology, x: Tensor) -> Tensor:
    """Return a conformation of `x` (m, n, 3) with the hand of the majority at every centre.

    Raises
    ------
    InputError
        If too few have it, so that there is no one hand to fold onto.
    """
    first = Handedness.of(topology, x[0])
    signs = torch.cat([first.signs(x), torch.ones(len(x), 1)], 1)
    same = (signs == signs.median(0).values).all(1)
    share = float(same.double().mean())
    if share < SAME_HAND:
        raise InputError(
            f"training data: {1 - share:.1%} of the conformations differ in handedness from the others; "
            "relabel their hydrogens, and leave out mirror images"
        )
    return x[int(same.double().argmax())]
