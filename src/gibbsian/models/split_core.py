"""The learnt part of the split-channel flow (Kim et al., arXiv 2401.04246), on variables only.

Couplings of the backbone come first, towards the base, and never see side chains; couplings of all variables follow.
Both are conditioned by gated attention over tokens, one token per variable.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gibbsian.errors import InputError
from gibbsian.models.layers.circular_base import ProductBase, fit_von_mises
from gibbsian.models.layers.token_coupling import TokenCoupling, count_mlp
from gibbsian.models.split_config import SplitConfig

Columns = NDArray[np.int64]
Config = TypeVar("Config", bound=SplitConfig)

_CYCLE = 4
"""Pairs of couplings after which their halves begin anew."""
_WIDEST = 1 << 16
_IDENTITY_SPREAD = 0.3


class TokenVariables(Protocol):
    """What the core needs to know about variables, as `gibbsian.coords.reduced.Variables` has it."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each variable is."""
        ...

    @property
    def residues(self) -> NDArray[np.int64]:
        """Residue of each variable."""
        ...

    @property
    def residue_names(self) -> tuple[str, ...]:
        """Name of the residue of each variable."""
        ...

    @property
    def backbone(self) -> NDArray[np.bool_]:
        """Whether each variable belongs to the backbone channel."""
        ...

    @property
    def periodic(self) -> NDArray[np.bool_]:
        """Whether each variable is on the circle."""
        ...

    @property
    def n(self) -> int:
        """Number of variables."""
        ...


@dataclass(frozen=True, eq=False)
class CoreStatistics:
    """What the core takes from data, float64, (n,) each.

    Attributes
    ----------
    mean, sd
        Of each angle in rad; those of torsions are not looked at.
    centre, concentration
        Von Mises law of each torsion, in turns; those of angles are not looked at.
    """

    mean: Tensor
    sd: Tensor
    centre: Tensor
    concentration: Tensor

    @classmethod
    def fit(cls, v: Tensor, mean: Tensor, sd: Tensor, log_w: Tensor | None = None) -> Self:
        """Take the statistics of weighted variables `v` (B, n), whose angles have the given means and deviations."""
        return cls(mean.double(), sd.double(), *fit_von_mises(v, log_w))

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, for storage."""
        return {"mean": self.mean, "sd": self.sd, "centre": self.centre, "concentration": self.concentration}


class TokenIdentity(nn.Module):
    """What a token is, apart from its value: the kind of its variable and its residue, learnt vectors (n, D)."""

    def __init__(self, variables: TokenVariables, config: SplitConfig) -> None:
        super().__init__()
        labels = [np.asarray(variables.kinds), np.asarray(variables.residue_names)]
        if "absolute" in config.positions:
            labels.append(np.asarray(variables.residues))
        self.tables = nn.ParameterList()
        for k, label in enumerate(labels):
            names, rows = np.unique(label, return_inverse=True)
            self.tables.append(nn.Parameter(_IDENTITY_SPREAD * torch.randn(len(names), config.width)))
            self.register_buffer(f"_rows{k}", torch.from_numpy(rows.astype(np.int64)), persistent=False)

    def forward(self) -> Tensor:
        """Return the vectors."""
        return torch.stack([table[self.get_buffer(f"_rows{k}")] for k, table in enumerate(self.tables)]).sum(0)


class SplitCore(nn.Module):
    """Bijection between variables of a molecule and those of a product base, with its density.

    Variables `v` (B, n) are turns in [0, 1) for torsions and standardised angles, in the order of the tokens. A new
    core is the identity.

    Parameters
    ----------
    variables
        What the variables are.
    statistics
        Of the data.
    config
        Sizes and switches.

    Raises
    ------
    InputError
        If the statistics are not those of so many variables.
    """

    def __init__(self, variables: TokenVariables, statistics: CoreStatistics, config: SplitConfig) -> None:
        super().__init__()
        self.config = config
        for name, tensor in statistics.tensors().items():
            if tensor.shape != (variables.n,):
                got = tuple(tensor.shape)
                raise InputError(f"split flow: statistics: {name} has shape {got}; give one number per {variables.n}")
        periodic = torch.from_numpy(np.array(variables.periodic))
        plan = [(torch.from_numpy(changed), torch.from_numpy(kept)) for changed, kept in _plan(variables, config)]
        self.identity = TokenIdentity(variables, config) if config.conditioner == "gated-attention" else None
        self.couplings = nn.ModuleList(TokenCoupling(config, *pair, periodic) for pair in plan)
        flat = config.base == "uniform"
        concentration = torch.zeros_like(statistics.concentration) if flat else statistics.concentration
        self.base = ProductBase(periodic, statistics.centre, torch.where(periodic, concentration, 0.0))

    def to_base(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return base variables (B, n) of data variables, and log |dz / dv| (B,). Dropout is on in training mode."""
        identity, log_det = self._identity(), v.new_zeros(len(v))
        for coupling in self.couplings:
            v, change = coupling(v, identity)
            log_det = log_det + change
        return v, log_det

    def from_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return data variables (B, n) of base variables, and log |dv / dz| (B,); never with dropout."""
        identity, log_det = self._identity(), z.new_zeros(len(z))
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, TokenCoupling)
            z, change = coupling.inverse(z, identity)
            log_det = log_det + change
        return z, log_det

    def log_prob(self, v: Tensor) -> Tensor:
        """Log density (B,) of variables (B, n), per turn and per standard deviation. Dropout is on in training mode."""
        z, log_det = self.to_base(v)
        return self.base.log_prob(z) + log_det

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw variables (n, number of variables), differentiably, and their log density (n,) on the path taken."""
        z = self.base.sample(n, generator)
        v, log_det = self.from_base(z)
        return v, self.base.log_prob(z) - log_det

    def _identity(self) -> Tensor | None:
        return None if self.identity is None else self.identity()


def plan_couplings(columns: Columns, n_couplings: int, seed: int) -> list[tuple[Columns, Columns]]:
    """Columns that each coupling of a stack changes, and those that it keeps.

    Couplings come in pairs that change complementary halves. Three pairs divide ranks by their lowest, second and third
    binary digit (as arXiv 2001.05486), the fourth at random: angles and torsions take turns along a chain, so even and
    odd ranks alone would never let two torsions see each other. A half without columns needs no coupling.
    """
    generator = np.random.default_rng(seed)
    ranks = np.arange(len(columns))
    n_digits = max((len(columns) - 1).bit_length(), 1)
    plan = []
    for pair in range(n_couplings // 2):
        digit = pair % _CYCLE
        order = generator.permutation(ranks) if digit == _CYCLE - 1 else ranks >> (digit % n_digits)
        half = order % 2 == 0
        plan += [(columns[mask], columns[~mask]) for mask in (half, ~half) if mask.any()]
    return plan


def _plan(variables: TokenVariables, config: SplitConfig) -> list[tuple[Columns, Columns]]:
    """Columns of all couplings, the backbone channel first."""
    backbone = plan_couplings(np.flatnonzero(variables.backbone), config.backbone, config.mask_seed)
    return backbone + plan_couplings(np.arange(variables.n), config.full, config.mask_seed + 1)


def count_parameters(config: SplitConfig, variables: TokenVariables) -> int:
    """Return the number of learnt parameters of a core."""
    zero, one = torch.zeros(variables.n), torch.ones(variables.n)
    with torch.random.fork_rng(devices=[]):
        core = SplitCore(variables, CoreStatistics(zero, one, zero, zero), config)
    return sum(parameter.numel() for parameter in core.parameters())


def match_parameters(config: Config, variables: TokenVariables, target: int, tol: float = 0.05) -> Config:
    """Give the MLP of the baseline `config` the width that brings its number of parameters closest to `target`.

    Raises
    ------
    InputError
        If `config` has no MLP, or no width comes within the share `tol` of the target.
    """
    if config.conditioner != "mlp":
        raise InputError(
            f"split flow: matching parameters: got conditioner {config.conditioner!r}; give a configuration with mlp"
        )

    plan = _plan(variables, config)

    def count(hidden: int) -> int:
        sized = replace(config, hidden=hidden)
        return sum(count_mlp(sized, len(changed), len(kept)) for changed, kept in plan)

    low, high = 1, _WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= target else (low, middle)
    best = min((low, high), key=lambda hidden: abs(count(hidden) - target))
    if abs(count(best) - target) > tol * target:
        raise InputError(
            f"split flow: matching parameters: a width of {best} gives {count(best)}, {target} were asked for; "
            "change the number of couplings or the target"
        )
    return replace(config, hidden=best)
