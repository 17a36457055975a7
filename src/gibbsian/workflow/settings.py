"""Settings of a run: read, merged with a recipe, checked, and written back resolved."""

from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.errors import InputError
from gibbsian.files import write_text
from gibbsian.models.registry import MODELS, Config
from gibbsian.sampling.langevin_paths import LangevinSettings
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.sampling.swap import SwapSettings
from gibbsian.sampling.truncation import Truncation
from gibbsian.training.annealing.settings import Annealing
from gibbsian.training.data import LEAST_LINEAGES
from gibbsian.training.feed import Streaming
from gibbsian.training.stages import Stage, TrainSettings, default_stages
from gibbsian.workflow.drawing import Method


class Settings(BaseModel):
    """Base: a misspelt key is an error, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SystemSettings(Settings):
    """What to simulate; None means the default of a built-in system, or of the package.

    `source` is a built-in name, a sequence, or a FASTA, PDB or mmCIF file.
    """

    source: str
    forcefield: str | None = None
    solvent: str | None = None
    cutoff: float | None = None
    temperature: float | None = None
    termini: str | None = None


class SamplingSettings(Settings):
    """How to sample, and how much.

    `snis` goes on until `until_ess` effective samples, if given, but at most to `n_max`; it draws whole chunks of
    `chunk` and keeps each. `truncation`, `smc`,
    `exchange` and `langevin` are the settings of the four methods. `temperatures` (K) are sampled besides that of the
    system, `n` each, from a model that holds them.
    """

    method: Method = "snis"
    n: int = Field(default=50_000, gt=0)
    chunk: int = Field(default=1000, gt=0)
    until_ess: float | None = Field(default=None, gt=0)
    n_max: int = Field(default=1_000_000, gt=0)
    truncation: Truncation = Truncation()
    smc: SmcSettings = SmcSettings()
    exchange: SwapSettings = SwapSettings()
    langevin: LangevinSettings = LangevinSettings()
    temperatures: tuple[float, ...] = ()


class RunSettings(Settings):
    """Everything that decides a run's results; `settings_of_model` makes the class whose `model` is of one kind.

    `seed` is the seed of each part that is not given its own; `proposal` names the model. `stages` learn from data,
    `annealing` from energies after them; without stages it starts from free torsions. With `stream` the simulation goes
    on while the stages learn from it.
    """

    system: SystemSettings
    recipe: str = "spline"
    proposal: str = "spline"
    seed: int = 0
    data: ExchangeSettings = ExchangeSettings()
    model: Config = MODELS["spline"].config()
    stages: tuple[Stage, ...] = tuple(default_stages())
    stream: Streaming | None = None
    annealing: Annealing | None = None
    training: TrainSettings = TrainSettings()
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not self.stages and self.annealing is None:
            raise ValueError("stages: none are given; give at least one, or annealing")
        if self.stream is not None and not self.stages:
            raise ValueError("stream: no stage learns from data; leave out stream, or give stages")
        if self.stream is not None and self.data.ladders < LEAST_LINEAGES:
            raise ValueError(f"stream: holds whole ladders out; give data.ladders of {LEAST_LINEAGES} or more")
        return self

    @model_validator(mode="after")
    def _holds_temperatures(self) -> Self:
        held, asked = getattr(self.model, "temperatures", None), self.sampling.temperatures
        if held is not None and self.annealing is not None:
            raise ValueError("annealing: leads to one temperature only; leave out annealing, or model.temperatures")
        if not asked:
            return self
        if held is None:
            raise ValueError("sampling.temperatures: the model holds one only; set model.temperatures, or leave it out")
        if len(set(asked)) < len(asked) or not all(held[0] <= t <= held[1] for t in asked):
            raise ValueError(
                f"sampling.temperatures: give each once, between {held[0]:g} and {held[1]:g} K as model.temperatures"
            )
        return self


@cache
def settings_of_model(name: str) -> type[RunSettings]:
    """Return the settings of runs with one kind of model, a key of `MODELS`."""
    config = MODELS[name].config
    return create_model("RunSettings", __base__=RunSettings, model=(config, config()))


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes."""
    folder = resources.files("gibbsian.recipes")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def resolve_settings(given: dict[str, Any], where: str = "run.yaml") -> RunSettings:
    """Fill what is not given from the recipe and check everything.

    Raises
    ------
    InputError
        With one line for the first thing that is wrong, and a suggestion for a misspelt key.
    """
    name = given.get("recipe", "spline")
    if name not in recipe_names():
        raise InputError(f"{where}: recipe: got {name!r}; the recipes are {', '.join(recipe_names())}")
    recipe = yaml.safe_load((resources.files("gibbsian.recipes") / f"{name}.yaml").read_text()) or {}
    seed = given.get("seed", recipe.get("seed", 0))
    seeds = {"data": {"seed": seed}, "training": {"seed": seed}}
    content = merge(merge(recipe, seeds), given)
    proposal = content.get("proposal", "spline")
    if not isinstance(proposal, str) or proposal not in MODELS:
        raise InputError(f"{where}: proposal: got {proposal!r}; the models are {', '.join(MODELS)}")
    kind = settings_of_model(proposal)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error, kind)}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file into a dictionary without checking its keys.

    Raises
    ------
    InputError
        If the file is missing, empty or no YAML mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); give an existing file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if content is None:
        raise InputError(f"{path}: is empty; write `system: {{source: ACE-ALA-NME}}` or take a run.yaml")
    if not isinstance(content, dict):
        raise InputError(f"{path}: got {type(content).__name__}, not settings; see `gibbsian run --help`")
    return content


def write_settings(path: Path, settings: RunSettings) -> None:
    """Write the resolved settings as YAML."""
    write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two nested dictionaries; `over` wins, lists are replaced as a whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _explain(error: ValidationError, kind: type[RunSettings]) -> str:
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    # A misspelt key often makes another one missing; the spelling is what to correct.
    first = min(error.errors(), key=lambda entry: entry["type"] not in unknown)
    where = ".".join(str(part) for part in first["loc"])
    if not where:  # a contradiction of two sections, which the message names
        return first["msg"].removeprefix("Value error, ")
    if first["type"] in unknown:
        names = _names_at(kind, first["loc"][:-1])
        close = get_close_matches(str(first["loc"][-1]), names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(names)}"
        return f"{where}: unknown key; {hint}"
    if first["type"] == "missing":
        return f"{where}: missing; it has no default"
    return f"{where}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"


def _names_at(kind: Any, path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that a nested model or dataclass has at `path`."""
    if get_origin(kind) in (Union, UnionType, tuple, list):
        inner = [part for part in get_args(kind) if part not in (type(None), Ellipsis)]
        kind = inner[0]
    if path and isinstance(path[0], int):
        return _names_at(kind, path[1:])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        members: dict[str, Any] = {name: field.annotation for name, field in kind.model_fields.items()}
    else:
        members = {field.name: field.type for field in fields(kind)} if is_dataclass(kind) else {}
    return _names_at(members[str(path[0])], path[1:]) if path else list(members)
