"""Systems of the benchmark tables: built-in ones, some with another solvent or without their cutoff."""

from dataclasses import dataclass

from gibbsian.chem.library import built_in, describe_built_in
from gibbsian.chem.system import System


@dataclass(frozen=True)
class Variant:
    """A built-in system with changes.

    Attributes
    ----------
    built_in
        Its name.
    forcefield, solvent
        None for its own.
    no_cutoff
        Whether all pairs interact although its own settings have a cutoff.
    """

    built_in: str
    forcefield: str | None = None
    solvent: str | None = None
    no_cutoff: bool = False

    def build(self) -> System:
        """Build the system."""
        entry = describe_built_in(self.built_in)
        if not self.no_cutoff or entry.cutoff is None or entry.sequence is None:
            return built_in(self.built_in, self.forcefield, self.solvent)
        return System.from_sequence(
            entry.sequence,
            self.forcefield or entry.forcefield,
            self.solvent or entry.solvent,
            None,
            entry.temperature,
            entry.termini,
        )


ENGINE = {
    "ACE-ALA-NME": Variant("ACE-ALA-NME"),
    "ACE-ALA-NME+gbn2": Variant("ACE-ALA-NME", "amber14", "gbn2"),
    "AAA": Variant("AAA"),
    "AAA+nocutoff": Variant("AAA", no_cutoff=True),
    "AAAAAA": Variant("AAAAAA"),
    "chignolin+obc2": Variant("chignolin", solvent="obc2", no_cutoff=True),
    "CLN025+obc2": Variant("CLN025", solvent="obc2", no_cutoff=True),
    "CLN025+gbn2": Variant("CLN025", solvent="gbn2", no_cutoff=True),
    "HP35-N27+obc2": Variant("HP35-N27"),
    "HP35-N27+gbn2": Variant("HP35-N27", solvent="gbn2"),
    "ubiquitin+obc2": Variant("ubiquitin"),
}
"""Systems of the engine table by name, smallest first."""
