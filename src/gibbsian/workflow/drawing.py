"""From a proposal to an ensemble by any of the methods."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.base import SamplingProposal
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.langevin_paths import LangevinSettings, sample_langevin
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.sampling.swap import SwapSettings, sample_exchange
from gibbsian.sampling.truncation import Truncation, truncated
from gibbsian.targets.base import Target

Method = Literal["snis", "smc", "exchange", "langevin"]
MethodSettings = Truncation | SmcSettings | SwapSettings | LangevinSettings
METHODS: dict[str, type[MethodSettings]] = {
    "snis": Truncation,
    "smc": SmcSettings,
    "exchange": SwapSettings,
    "langevin": LangevinSettings,
}
"""What each method is set by."""


def method_settings(method: str, given: MethodSettings | Mapping[str, Any] | None) -> MethodSettings:
    """Return the settings of a method, from an object of its class, from plain data, or the defaults.

    Raises
    ------
    InputError
        For an unknown method, or settings of another one.
    """
    if method not in get_args(Method):
        raise InputError(f"sample: method: got {method!r}; the methods are {', '.join(get_args(Method))}")
    wanted = METHODS[method]
    if given is None or isinstance(given, wanted):
        return wanted() if given is None else given
    if is_dataclass(given) or not isinstance(given, Mapping):
        raise InputError(f"sample: settings: got {type(given).__name__}; method {method} takes {wanted.__name__}")
    names = [entry.name for entry in fields(wanted)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"sample: settings: unknown key {unknown[0]}; those of {method} are {', '.join(names)}")
    try:
        return TypeAdapter(wanted).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"sample: settings: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def draw(
    proposal: SamplingProposal,
    target: Target,
    n: int,
    *,
    method: str,
    settings: MethodSettings | Mapping[str, Any] | None = None,
    topology: Topology,
    temperature: float,
    folder: Path | None = None,
    seed: int = 0,
    chunk: int = 1000,
    until_ess: float | None = None,
    n_max: int | None = None,
    report: Report = silent,
) -> Ensemble:
    """Draw `n` samples of a target by importance sampling, annealing, exchange, or Langevin paths.

    `chunk`, `until_ess` and `n_max` are for importance sampling; all other parameters are those of `sample_snis`,
    `sample_smc`, `sample_exchange` and `sample_langevin`.

    Raises
    ------
    InputError
        For an unknown method, wrong settings, or a proposal without a density.
    """
    chosen = method_settings(method, settings)
    common = {"topology": topology, "temperature": temperature, "folder": folder, "seed": seed, "report": report}
    if until_ess is not None and not isinstance(chosen, Truncation):
        raise InputError(f"sample: until_ess: method {method} takes a number of samples only; choose snis")
    if isinstance(chosen, SmcSettings):
        return sample_smc(proposal, target, n, settings=chosen, **common)
    if isinstance(chosen, SwapSettings):
        return sample_exchange(proposal, target, n, settings=chosen, **common)
    if isinstance(chosen, LangevinSettings):
        return sample_langevin(proposal, target, n, settings=chosen, **common)
    return truncated(sample_snis(proposal, target, n, chunk=chunk, until_ess=until_ess, n_max=n_max, **common), chosen)
