"""TarFlow (arXiv 2412.06329), a transformer flow, on the atoms of a molecule as in arXiv 2502.18462.

    x -> gauge -> tokens -> block 1 -> ... -> block M -> z ~ N(0, 1),    q(x) = N(z) |dz / dx|

A block moves every token by a map whose coefficients a causal transformer computes from the tokens before it;
every second block takes them in reverse. The density costs one parallel pass, a sample one pass per token with cached
keys and values. What the flow does about position and orientation is the choice of its gauge; what it does about
equivalent hydrogens, that of its labels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gibbsian.chem.residues import symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import middle_frame
from gibbsian.coords.permutations import random_relabelling
from gibbsian.errors import InputError
from gibbsian.models.frame_gauge import FrameGauge
from gibbsian.models.gauges import Gauge, SoftGauge, new_gauge, stored_gauge
from gibbsian.models.labels import Labels
from gibbsian.models.layers.affine import AffineMap
from gibbsian.models.layers.autoregressive import AutoregressiveBlock
from gibbsian.models.layers.spline_map import SplineMap
from gibbsian.models.orders import bond_order
from gibbsian.models.storage import read_tensors, write_tensors
from gibbsian.models.tarflow_config import PRESETS, TarFlowConfig
from gibbsian.models.thinning import thinned

FORMAT = "gibbsian-tarflow-1"
DEFAULT = PRESETS["small"].config
CHUNK = 1024


class TarFlow(nn.Module):
    """Exact-density generator of all-atom conformations in Cartesian coordinates (a `Proposal`).

    Parameters
    ----------
    topology
        Molecule.
    gauge
        From `TarFlow.from_data` or a file.
    config
        Sizes and choices.
    labels
        The labelling that is modelled; None for all of them.
    """

    def __init__(
        self, topology: Topology, gauge: Gauge, config: TarFlowConfig = DEFAULT, labels: Labels | None = None
    ) -> None:
        super().__init__()
        self.topology, self.gauge, self.config, self.labels = topology, gauge, config, labels
        self.n_atoms = topology.n_atoms
        order = _order(topology, gauge, config)
        mask = gauge.mask[order]
        self._n_dims = int(mask.sum())
        split = mask.reshape(-1, 1) if config.tokens == "coordinate" else mask
        self.blocks = nn.ModuleList([_new_block(split, config, index) for index in range(config.blocks)])
        self.mask: Tensor
        self.register_buffer("mask", mask.float(), persistent=False)
        self.order: Tensor
        self.register_buffer("order", order, persistent=False)

    @classmethod
    def from_data(
        cls,
        topology: Topology,
        x: Tensor,
        log_w: Tensor | None = None,
        config: TarFlowConfig = DEFAULT,
        seed: int = 0,
    ) -> Self:
        """Make an untrained flow with the length scale of weighted conformations `x` (n, n_atoms, 3) nm.

        They are relabelled by random symmetries first, as in training, and thinned to 50,000.

        Raises
        ------
        InputError
            If there are fewer than ten conformations, or the gauge cannot use them.
        """
        x, weights = thinned(x, log_w)
        x = random_relabelling(x, symmetry_groups(topology), torch.Generator().manual_seed(seed))
        labels = Labels.from_data(topology, x, weights) if config.one_labelling else None
        x = x if labels is None else labels.relabelled(x)
        gauge = new_gauge(config.gauge, topology, x, weights, config.com, config.frame)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(topology, gauge, config, labels)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of `x` (B, n_atoms, 3) nm, (B,) float64; -inf where it is not finite.

        Over all 3n coordinates for the soft gauge, in the mean-free orthonormal measure for the others; with
        `log_gauge` both give the same log Z.
        """
        log_q = torch.cat([self._log_prob(part) for part in x.split(CHUNK)])
        return torch.where(torch.isfinite(log_q), log_q, -torch.inf)

    def objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of each conformation, its negative log-likelihood (B,); inf outside the support."""
        return -self.log_prob(x)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (B,) and its gradient with respect to x (B, n_atoms, 3) in 1/nm, float64.

        No gradients of the weights are computed or kept.
        """
        values, grads = [], []
        with _frozen(self), torch.enable_grad():
            for part in x.detach().double().split(CHUNK):
                leaf = part.clone().requires_grad_(True)
                log_q = self.log_prob(leaf)
                grads.append(torch.autograd.grad(log_q.sum(), leaf)[0])
                values.append(log_q.detach())
        return torch.cat(values), torch.cat(grads)

    def log_gauge(self, x: Tensor) -> Tensor:
        """Log density (B,) given to the centre of mass, float64; zero where the gauge has none."""
        return self.gauge.log_gauge(x)

    @torch.no_grad()
    def fit_centre(self, seed: int, n: int = 4096) -> None:
        """With the law ``fitted``, take it from `n` draws of their own random stream; else do nothing.

        To be called once after training, before any weights are computed.
        """
        if self.config.com == "fitted" and isinstance(self.gauge, SoftGauge):
            x, _ = self.rsample(n, torch.Generator().manual_seed(seed))
            self.gauge = self.gauge.fitted(x)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Move training conformations (B, n_atoms, 3) nm as the gauge asks; shapes do not change."""
        return self.gauge.augment(x, generator)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `n` conformations (n, n_atoms, 3) nm and log q (n,), both float64.

        The density is computed from the final coordinates, the same way as by `log_prob`.
        """
        x, _ = self.rsample(n, generator)
        return x, self._own_density(x)

    def rsample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw conformations (n, n_atoms, 3) nm and log q (n,) of the generating path, not differentiable.

        Raises
        ------
        InputError
            Where gradients are asked for: a sample takes one pass per token, which no reverse KL can afford.
        """
        if torch.is_grad_enabled():
            raise InputError("tarflow: samples are not differentiable; set w_kl to 0 in every stage")
        parts = [self._generate(min(CHUNK, n - start), generator) for start in range(0, n, CHUNK)]
        positions, log_q = zip(*parts, strict=True)
        return torch.cat(positions), torch.cat(log_q)

    def latent_circular(self) -> Tensor:
        """Return which of the d latent variables live on the circle: none, (d,) bool."""
        return torch.zeros(self._n_dims, dtype=torch.bool)

    @torch.no_grad()
    def to_latent(self, x: Tensor) -> Tensor:
        """Return latent variables (B, d), float64, of conformations (B, n_atoms, 3) nm."""
        parts = [self._to_base(self._tokens(part)[0])[0] for part in x.split(CHUNK)]
        return torch.cat(parts)[:, self.mask > 0].double().to(x.device)

    @torch.no_grad()
    def from_latent(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return conformations (B, n_atoms, 3) nm of latent variables (B, d), and their `log_prob` (B,), float64."""
        base = self.mask.new_zeros(len(z), *self.mask.shape)
        base[:, self.mask > 0] = z.to(base)
        parts = [self._conformations(self._from_base(part)[0])[0] for part in base.split(CHUNK)]
        x = torch.cat(parts).to(z.device)
        return x, self._own_density(x)

    @torch.no_grad()
    def round_trip_error(self, x: Tensor) -> Tensor:
        """Largest change of a token (B,), in network units, of `x` (B, n_atoms, 3) nm mapped to the base and back."""
        tokens, _ = self._tokens(x)
        back, _ = self._from_base(self._to_base(tokens)[0])
        return (back - tokens).abs().amax((1, 2)).to(x.device)

    def save(self, path: Path | str) -> None:
        """Write the flow, its gauge and its molecule to one safetensors file."""
        header = {"format": FORMAT, "topology": self.topology.to_dict(), "config": asdict(self.config)}
        fixed = {f"gauge.{name}": tensor for name, tensor in self.gauge.tensors().items()}
        if self.labels is not None:
            fixed["labels"] = self.labels.reference
        write_tensors(Path(path), fixed | self.state_dict(), header)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a flow written by `save`.

        Raises
        ------
        InputError
            If the file is missing, damaged or not a TarFlow.
        """
        tensors, header = read_tensors(Path(path), FORMAT)
        frame = header["config"]["frame"]
        config = TarFlowConfig(**header["config"] | {"frame": None if frame is None else tuple(frame)})
        topology = Topology.from_dict(header["topology"])
        names = [name for name in tensors if name.startswith("gauge.")]
        gauge = {name.removeprefix("gauge."): tensors.pop(name) for name in names}
        labels = Labels.stored(topology, tensors.pop("labels")) if "labels" in tensors else None
        flow = cls(topology, stored_gauge(config.gauge, topology, gauge, config.com), config, labels)
        flow.load_state_dict(tensors)
        return flow

    def _log_prob(self, x: Tensor) -> Tensor:
        tokens, log_det = self._tokens(x)
        z, change = self._to_base(tokens)
        return (self._log_normal(z) + change + log_det).to(x.device)

    def _own_density(self, x: Tensor) -> Tensor:
        """Log density (B,) of the flow's own draws: none where they left the labelling that it models."""
        log_q = self.log_prob(x)
        return log_q if self.labels is None else torch.where(self.labels.hold(x), log_q, -torch.inf)

    def _tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, 3), and log |d tokens / dx| (B,) less the logarithm of the number of labellings."""
        parameter = next(self.parameters())
        x = x.to(parameter.device, torch.float64)
        if self.labels is None:
            tokens, log_det = self.gauge.forward(x)
        else:
            tokens, log_det = self.gauge.forward(self.labels.relabelled(x))
            log_det = log_det - self.labels.log_number
        return tokens[:, self.order].to(parameter.dtype), log_det

    def _conformations(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `_tokens`; the log-determinant is that of this direction."""
        return self.gauge.inverse(tokens[:, torch.argsort(self.order)].double())

    def _to_base(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return base variables (B, T, 3) of tokens, and the log-determinant (B,), float64."""
        v, log_det = self._split(tokens), tokens.new_zeros(len(tokens), dtype=torch.float64)
        for block in self.blocks:
            if self.config.recompute and torch.is_grad_enabled():
                v, change = checkpoint(block, v, use_reentrant=False, preserve_rng_state=False)
            else:
                v, change = block(v)
            log_det = log_det + change
        return v.reshape(tokens.shape), log_det

    def _from_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, 3) of base variables, and the log-determinant (B,), float64."""
        v, log_det = self._split(z), z.new_zeros(len(z), dtype=torch.float64)
        for block in reversed(self.blocks):
            assert isinstance(block, AutoregressiveBlock)
            v, change = block.inverse(v)
            log_det = log_det + change
        return v.reshape(z.shape), log_det

    def _generate(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn((n, *self.mask.shape), generator=generator, dtype=self.mask.dtype)
        noise = noise.to(self.mask.device) * self.mask
        tokens, change = self._from_base(noise)
        x, log_j = self._conformations(tokens)
        log_q = self._log_normal(noise) - change - log_j
        if self.labels is not None:
            log_q = torch.where(self.labels.hold(x), log_q - self.labels.log_number, -torch.inf)
        return x.to(generator.device), log_q.to(generator.device)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(len(tokens), -1, 1) if self.config.tokens == "coordinate" else tokens

    def _log_normal(self, z: Tensor) -> Tensor:
        return -0.5 * z.double().square().sum((1, 2)) - 0.5 * self._n_dims * math.log(2.0 * math.pi)


def _new_block(mask: Tensor, config: TarFlowConfig, index: int) -> AutoregressiveBlock:
    p = mask.shape[1]
    if config.map == "spline" and index == 0:
        token_map = SplineMap(config.width, p, config.hidden, config.bins, config.bound)
    else:
        token_map = AffineMap(config.width, p, config.bound, config.triangular)
    return AutoregressiveBlock(
        mask, config.width, config.depth, config.head, map=token_map, start=config.start, reverse=index % 2 == 1
    )


def _order(topology: Topology, gauge: Gauge, config: TarFlowConfig) -> Tensor:
    """Which token of the gauge comes at each place, (T,)."""
    if isinstance(gauge, FrameGauge) and gauge.local is not None:
        return gauge.local.atoms
    if config.order == "topology":
        return torch.arange(len(gauge.mask))
    first = gauge.frame[0] if isinstance(gauge, FrameGauge) else middle_frame(topology)[0]
    return torch.tensor(bond_order(topology, first))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Switch off the gradients of all weights, which saves their time and memory."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
