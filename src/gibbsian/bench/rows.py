"""Rows of benchmark tables: what one is, and its file."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gibbsian.errors import InputError
from gibbsian.files import make_folder, read_json, write_json

_FIELDS = ("table", "system", "row", "seed", "metrics", "budget", "hardware", "command")


@dataclass(frozen=True)
class RowKey:
    """Which row: table, system, row and seed (None where nothing is random)."""

    table: str
    system: str
    row: str
    seed: int | None = None

    @property
    def command(self) -> str:
        """The command that makes the row."""
        seed = "" if self.seed is None else f" --seed {self.seed}"
        return f"gibbsian bench {self.table} --system {self.system} --row {self.row}{seed}"

    def path(self, results: Path) -> Path:
        """Its file under the results folder."""
        seed = "" if self.seed is None else f".seed{self.seed}"
        return results / self.table / f"{self.system}.{self.row}{seed}.json"


@dataclass(frozen=True)
class Metric:
    """A figure; None where it does not exist or is not finite.

    Attributes
    ----------
    value, error
        The figure and its standard error or spread.
    floor
        What the figure would be if nothing but the sample size made it, for distances.
    """

    value: float | None
    error: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "error", "floor"):
            number = getattr(self, name)
            plain = None if number is None or not math.isfinite(number) else float(number)
            object.__setattr__(self, name, plain)


@dataclass(frozen=True)
class Row:
    """A finished row.

    Attributes
    ----------
    key
        Which row.
    metrics
        Figures by name.
    budget
        What was spent: steps, conformations, rounds.
    hardware
        Processor, cores, instruction set, versions.
    """

    key: RowKey
    metrics: Mapping[str, Metric]
    budget: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)

    def write(self, results: Path) -> Path:
        """Write the row atomically and return its file.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        path = self.key.path(results)
        make_folder(path.parent)
        content = {
            **dataclasses.asdict(self.key),
            "metrics": {name: dataclasses.asdict(metric) for name, metric in self.metrics.items()},
            "budget": dict(self.budget),
            "hardware": dict(self.hardware),
            "command": self.key.command,
        }
        write_json(path, content)
        return path


def read_row(path: Path) -> Row:
    """Read one row; a damaged file is an `InputError` that names it."""
    content = read_json(path)
    try:
        if set(content) != set(_FIELDS):
            raise ValueError(f"its fields are not {', '.join(_FIELDS)}")
        key = RowKey(*(content[name] for name in ("table", "system", "row", "seed")))
        metrics = {name: Metric(**values) for name, values in content["metrics"].items()}
        return Row(key, metrics, dict(content["budget"]), dict(content["hardware"]))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a benchmark row ({error}); delete it to make it anew") from error


def read_rows(results: Path, table: str) -> list[Row]:
    """All rows of a table that exist, by file name."""
    return [read_row(path) for path in sorted((results / table).glob("*.json"))]
