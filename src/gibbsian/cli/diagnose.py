"""`gibbsian doctor`: what is installed, what works, and whether the engines agree."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from gibbsian.errors import GibbsianError

OPTIONAL = ("tables", "triton")
FRAMES = 4


def doctor(engines: bool) -> None:
    """Print versions, devices and engines; with `engines`, compare them on every built-in system.

    Raises
    ------
    GibbsianError
        If an engine disagrees with OpenMM.
    """
    from gibbsian.workflow.describe import LIBRARIES

    out = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    for name in LIBRARIES + OPTIONAL:
        table.add_row(name, _version(name))
    for name, state in _devices():
        table.add_row(name, state)
    out.print(table)
    if engines:
        _compare(out)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed" + (" (optional)" if name in OPTIONAL else "; reinstall gibbsian")


def _devices() -> list[tuple[str, str]]:
    import torch

    from gibbsian.potentials.openmm import platform_names

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return [
        ("torch device", f"{cuda}; {torch.get_num_threads()} threads"),
        ("openmm platforms", ", ".join(platform_names())),
        ("compiled engine", _compiled()),
        ("triton engine", _triton(torch.cuda.is_available())),
    ]


def _compiled() -> str:
    from gibbsian.kernels import instruction_sets

    sets = instruction_sets()
    if not sets:
        return "not built (no C++ compiler at installation); the torch engine does all the work, about ten times slower"
    return f"{sets[0]} (this processor has {', '.join(sets)})"


def _triton(gpu: bool) -> str:
    from gibbsian.potentials.triton import has_triton

    if not has_triton():
        return "not installed (optional, for GPUs; install the extra cuda)"
    return "ready" if gpu else "installed, but PyTorch finds no GPU"


def _compare(out: Console) -> None:
    from gibbsian.chem.library import built_in, built_in_names
    from gibbsian.potentials.compare import compare_engines, displaced

    table = Table("system", "atoms", "engine", "energy (relative)", "force (of rms)", "", box=None, pad_edge=False)
    agree = True
    for name in built_in_names():
        system = built_in(name)
        rows = compare_engines(system, displaced(system, FRAMES))
        for engine in dict.fromkeys(row.engine for row in rows):
            mine = [row for row in rows if row.engine == engine]
            fine = all(row.agrees for row in mine)
            agree = agree and fine
            worst = (f"{max(row.energy for row in mine):.0e}", f"{max(row.force for row in mine):.0e}")
            table.add_row(name, str(system.n_atoms), engine, *worst, mine[0].note or ("ok" if fine else "DISAGREES"))
    out.print("Largest errors against OpenMM's Reference platform, on displaced and overlapping conformations:")
    out.print(table)
    if not agree:
        raise GibbsianError("doctor: an engine disagrees with OpenMM; please report this table")
