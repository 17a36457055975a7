"""The choice of an engine."""

import logging

import torch

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.potentials.base import Potential
from gibbsian.potentials.compiled import CompiledPotential, is_built
from gibbsian.potentials.torch import TorchPotential

ENGINES = ("auto", "compiled", "torch", "openmm")
"""Engines that `potential` accepts."""

log = logging.getLogger(__name__)


def potential(
    system: System,
    engine: str = "auto",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> Potential:
    """Potential energy of a system.

    Parameters
    ----------
    system
        Molecule and force field.
    engine
        ``compiled``, ``torch``, ``openmm`` or ``auto``. The last is compiled on the CPU where it was built, else torch,
        and openmm where a force is unknown to both, which a log line announces.
    dtype, device
        Precision and place of the arithmetic. The compiled engine is for the CPU; the openmm engine is always double
        precision on the CPU.
    threads
        Of the compiled engine and processes of the openmm one; None takes all cores.

    Raises
    ------
    InputError
        If the engine does not exist, was not built, or does not know a force.
    """
    if engine not in ENGINES:
        raise InputError(f"engine: got {engine!r}, available are {', '.join(ENGINES)}")
    if engine == "auto":
        on_cpu = torch.device(device).type == "cpu"
        engine = "compiled" if on_cpu and is_built() else "torch"
        if system.parameters.unknown:
            engine = "openmm"
            log.warning(
                "%s: no batched engine knows %s; OpenMM takes one conformation at a time, about %d times slower",
                system.sequence,
                ", ".join(system.parameters.unknown),
                _SLOWER,
            )
    if engine == "compiled":
        return CompiledPotential(system.parameters, dtype=dtype, threads=threads)
    if engine == "torch":
        return TorchPotential(system.parameters, dtype=dtype, device=device)
    from gibbsian.potentials.openmm import OpenMMPotential

    return OpenMMPotential(system.openmm_system, workers=threads)


_SLOWER = 100
"""Rate of the compiled engine over that of OpenMM with a custom generalized Born force, 33 to 166 atoms."""
