"""The compiled kernels: whether they were built, and for which processors."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def is_built() -> bool:
    """Whether a compiler was there when gibbsian was installed."""
    return find_spec("gibbsian._kernels") is not None


def instruction_sets() -> list[str]:
    """Instruction sets of the kernels that this processor has, the widest first; empty if they were not built."""
    return kernels().instruction_sets() if is_built() else []


def kernels() -> Any:
    """Return the extension module."""
    return import_module("gibbsian._kernels")
