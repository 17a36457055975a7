"""The System: a molecule, its force field and its temperature, as plain data."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.parameters import Parameters, extract
from gibbsian.chem.topology import Topology

if TYPE_CHECKING:
    import openmm


@dataclass(frozen=True, eq=False)
class System:
    """A molecule with its force field, solvent model and temperature.

    Attributes
    ----------
    sequence
        Three-letter names joined by dashes, caps included: ``ACE-ALA-NME``.
    termini
        ``capped``, ``zwitterionic`` or ``custom``.
    forcefield, solvent
        Names listed in `gibbsian.chem.forcefield`; ``custom`` for `from_openmm`.
    cutoff
        Non-bonded cutoff in nm; None for no cutoff.
    temperature
        K.
    topology, positions
        Atoms and bonds, and one starting structure, (n_atoms, 3) nm.
    openmm_system
        The OpenMM System that everything else is translated from.
    changes
        What a reader repaired, one sentence each.
    """

    sequence: str
    termini: str
    forcefield: str
    solvent: str
    cutoff: float | None
    temperature: float
    topology: Topology
    positions: NDArray[np.float64]
    openmm_system: "openmm.System"
    changes: tuple[str, ...] = field(default=())

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.topology.n_atoms

    @cached_property
    def parameters(self) -> Parameters:
        """Force-field parameters as plain arrays; terms that no engine knows are named in it."""
        return extract(self.openmm_system)

    @property
    def key(self) -> dict[str, str | float | None]:
        """What identifies a reference ensemble: same key, same Boltzmann distribution."""
        return {
            "sequence": self.sequence,
            "termini": self.termini,
            "forcefield": self.forcefield,
            "solvent": self.solvent,
            "cutoff": self.cutoff,
            "temperature": self.temperature,
        }

    def at(self, temperature: float) -> Self:
        """Return the same system at another temperature (K)."""
        return replace(self, temperature=temperature)
