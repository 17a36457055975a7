"""What a row was measured on."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gibbsian.kernels import instruction_sets
from gibbsian.potentials.compiled import usable_cores


def hardware() -> dict[str, Any]:
    """Processor, cores, widest instruction set of the compiled kernels (None without them), versions."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "instruction_set": next(iter(instruction_sets()), None),
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
