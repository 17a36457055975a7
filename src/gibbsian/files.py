"""Atomic writes: a reader sees the old file or the new one, never half of one."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a neighbouring temporary file and rename it over `path`.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot write ({error.strerror}); free the disk or choose another folder") from error


def write_text(path: Path, content: str) -> None:
    """Write text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; keys keep their order, so equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one `.npy` file atomically."""
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, if there is none.

    Raises
    ------
    InputError
        If that is impossible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror}); choose another folder") from error


def folder_of(parent: Path, name: str, settings: Any) -> Path:
    """Make the sub-folder of what `name` makes with some settings: others have another one.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    place = parent / f"{name}-{digest}"
    make_folder(place)
    write_json(place / "settings.json", settings)
    return place


def read_json(path: Path) -> Any:
    """Read JSON; a damaged file is an `InputError` that names it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); delete it to make it anew") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
