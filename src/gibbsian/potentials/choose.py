"""The choice of an engine."""

import logging

import torch

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.kernels import is_built
from gibbsian.potentials.base import Potential
from gibbsian.potentials.compiled import CompiledPotential
from gibbsian.potentials.torch import TorchPotential
from gibbsian.potentials.triton import TritonPotential, has_triton

ENGINES = ("auto", "compiled", "triton", "torch", "openmm")
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
        ``compiled``, ``triton``, ``torch``, ``openmm`` or ``auto``. The last is compiled on the CPU where it was built,
        triton on a CUDA device where that library is installed, else torch, and openmm where a force is unknown to all
        of these, which a log line announces.
    dtype, device
        Precision and place of the arithmetic. The compiled engine is for the CPU, the triton engine for CUDA devices;
        the openmm engine is always double precision on the CPU.
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
        engine = _fastest(torch.device(device).type)
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
    if engine == "triton":
        return TritonPotential(system.parameters, dtype=dtype, device=device)
    if engine == "torch":
        return TorchPotential(system.parameters, dtype=dtype, device=device)
    from gibbsian.potentials.openmm import OpenMMPotential

    return OpenMMPotential(system.openmm_system, workers=threads)


def _fastest(kind: str) -> str:
    """Engine for a kind of device."""
    if kind == "cpu" and is_built():
        return "compiled"
    return "triton" if kind == "cuda" and has_triton() else "torch"


_SLOWER = 100
"""Rate of the compiled engine over that of OpenMM with a custom generalized Born force, 33 to 166 atoms."""
