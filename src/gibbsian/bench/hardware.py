"""What a row was measured on."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """Processor, cores, instruction set of the compiled kernels (None without them), versions."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "instruction_set": _instruction_set(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("gibbsian", "openmm", "torch", "numpy")},
        },
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _instruction_set() -> str | None:
    if find_spec("gibbsian._kernels") is None:
        return None
    from gibbsian import _kernels

    return _kernels.instruction_sets()[0]
