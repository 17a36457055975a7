"""The choice of an engine."""

import logging

import torch

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.potentials.base import Potential
from gibbsian.potentials.torch import TorchPotential

ENGINES = ("auto", "torch", "openmm")
"""Engines that `potential` accepts."""

log = logging.getLogger(__name__)


def potential(
    system: System,
    engine: str = "auto",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Potential:
    """Potential energy of a system.

    Parameters
    ----------
    system
        Molecule and force field.
    engine
        ``torch``, ``openmm`` or ``auto``: torch where it knows every force, else openmm, which a log line
        announces.
    dtype, device
        Precision and place of the arithmetic; the openmm engine is always double precision on the CPU.

    Raises
    ------
    InputError
        If the engine does not exist, or is ``torch`` and a force is unknown to it.
    """
    if engine not in ENGINES:
        raise InputError(f"engine: got {engine!r}, available are {', '.join(ENGINES)}")
    if engine == "auto":
        engine = "openmm" if system.parameters.unknown else "torch"
        if engine == "openmm":
            log.warning(
                "%s: no batched engine knows %s; OpenMM takes one conformation at a time, about %d times slower",
                system.sequence,
                ", ".join(system.parameters.unknown),
                _SLOWER,
            )
    if engine == "torch":
        return TorchPotential(system.parameters, dtype=dtype, device=device)
    from gibbsian.potentials.openmm import OpenMMPotential

    return OpenMMPotential(system.openmm_system)


_SLOWER = 20
"""Rate of the torch engine over that of OpenMM with a custom generalized Born force, 22 atoms, per core."""
