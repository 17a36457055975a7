"""The System: a molecule, its force field and its temperature, as plain data."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.parameters import Parameters, extract
from gibbsian.chem.topology import Topology

if TYPE_CHECKING:
    import openmm
    import openmm.app


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
        What a reader repaired, and which residues have a template that is not the force field's own; a sentence each.
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

    def to_xml(self) -> str:
        """Return the OpenMM System as XML, readable by `openmm.XmlSerializer`."""
        import openmm

        return openmm.XmlSerializer.serialize(self.openmm_system)

    @classmethod
    def from_sequence(
        cls,
        sequence: str,
        forcefield: str | None = None,
        solvent: str | None = None,
        cutoff: float | None = None,
        temperature: float | None = None,
        termini: str | None = None,
    ) -> "System":
        """Build an extended L-peptide, relaxed by a short minimisation.

        Parameters
        ----------
        sequence
            ``ACE-ALA-NME``, ``ACE-AAA-NME`` or ``GYDPETGTWG``; see `gibbsian.chem.sequence.parse_sequence`.
        forcefield, solvent
            A pair of `gibbsian.chem.forcefield.PAIRS`; amber14 and obc1 by default.
        cutoff
            nm; None for none.
        temperature
            K; 300 by default.
        termini
            ``capped`` adds missing ACE and NME, ``zwitterionic`` refuses caps; by default the sequence decides.

        Raises
        ------
        InputError
            For an unknown residue, force field, solvent or termini, an invalid pair, or a bad temperature.
        """
        from gibbsian.chem import build

        return build.from_sequence(sequence, forcefield, solvent, cutoff, temperature, termini)

    @classmethod
    def from_pdb(
        cls,
        path: str | Path,
        forcefield: str | None = None,
        solvent: str | None = None,
        cutoff: float | None = None,
        temperature: float | None = None,
        termini: str | None = None,
    ) -> "System":
        """Read a PDB or mmCIF file with one protein chain and repair it.

        Solvent is removed, missing atoms and hydrogens (pH 7) are added; `changes` lists what was done. A complete
        structure keeps its coordinates; a repaired one is minimised briefly. Other parameters as in `from_sequence`.

        Raises
        ------
        InputError
            Naming file, chain and residue: unknown residue, ligand, chains, D-residue, broken chain, bad numbers.
        """
        from gibbsian.chem import pdb

        return pdb.from_pdb(path, forcefield, solvent, cutoff, temperature, termini)

    @classmethod
    def from_openmm(
        cls,
        topology: "openmm.app.Topology",
        openmm_system: "openmm.System",
        positions: NDArray[np.float64],
        temperature: float,
    ) -> "System":
        """Wrap a topology, a System without constraints, and positions (nm, or with OpenMM units).

        Force field and solvent are called ``custom``. Hydrogens are relabelled as in every System.

        Raises
        ------
        InputError
            If the numbers of atoms differ, a position is not finite, or the system is constrained or periodic.
        """
        from gibbsian.chem import build

        return build.from_openmm(topology, openmm_system, positions, temperature)
