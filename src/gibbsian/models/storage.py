"""Tensors with a JSON header in one safetensors file, written atomically; nothing is ever unpickled."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.files import write_bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write named tensors and a header, which must hold a ``format`` entry.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(stored, metadata={"header": json.dumps(header)}))


def read_tensors(path: Path, expected: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_tensors` whose ``format`` is `expected`.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another format.
    """
    with _opened(path) as (file, header):
        if header.get("format") != expected:
            raise InputError(
                f"{path}: format {header.get('format')!r} where {expected!r} is needed; choose another file"
            )
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def read_format(path: Path) -> str | None:
    """Return the ``format`` of a file of `write_tensors`, without reading its tensors.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    with _opened(path) as (_, header):
        return header.get("format")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file, json.loads((file.metadata() or {}).get("header", "{}"))
    except (OSError, SafetensorError, JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as safetensors ({error}); delete it to make it anew") from error
