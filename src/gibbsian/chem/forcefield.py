"""Force fields and implicit solvents by name, and which pairs are valid."""

from functools import lru_cache
from typing import TYPE_CHECKING

from gibbsian.chem import charmm, nonstandard
from gibbsian.chem.convert import nanometers
from gibbsian.errors import InputError

if TYPE_CHECKING:
    import openmm
    from openmm import app

FORCEFIELDS = {
    "amber96": "amber96.xml",
    "amber99sbildn": "amber99sbildn.xml",
    "amber14": "amber14/protein.ff14SB.xml",
    "amber19": "amber19/protein.ff19SB.xml",
    "charmm36": charmm.FILE,
}
"""Name and the file shipped with OpenMM; the protein part only, which is all that a peptide uses."""

SOLVENTS: dict[str, str | None] = {
    "amber96_obc": "amber96_obc.xml",
    "amber99_obc": "amber99_obc.xml",
    "hct": "implicit/hct.xml",
    "obc1": "implicit/obc1.xml",
    "obc2": "implicit/obc2.xml",
    "gbn": "implicit/gbn.xml",
    "gbn2": "implicit/gbn2.xml",
    "vacuum": None,
}

_LEGACY = {"amber96_obc": "amber96", "amber99_obc": "amber99sbildn"}  # radii by that field's atom types
PAIRS = tuple((f, s) for f in FORCEFIELDS for s in SOLVENTS if _LEGACY.get(s, f) == f)
"""All valid (forcefield, solvent) pairs."""


def valid_solvents(forcefield: str) -> list[str]:
    """Solvents that go with a force field."""
    return [s for f, s in PAIRS if f == forcefield]


def check_pair(forcefield: str, solvent: str) -> None:
    """Raise an InputError for an unknown name or an invalid pair."""
    if forcefield not in FORCEFIELDS:
        raise InputError(f"forcefield: unknown {forcefield!r}; choose one of {', '.join(FORCEFIELDS)}")
    if solvent not in SOLVENTS:
        raise InputError(f"solvent: unknown {solvent!r}; choose one of {', '.join(valid_solvents(forcefield))}")
    if (forcefield, solvent) not in PAIRS:
        valid = ", ".join(valid_solvents(forcefield))
        raise InputError(f"solvent: {solvent} does not go with forcefield {forcefield}; choose one of {valid}")


@lru_cache(maxsize=8)
def _force_field(forcefield: str, solvent: str) -> "app.ForceField":
    from openmm import app

    second = SOLVENTS[solvent]
    more = [second] if second else []
    if forcefield == "charmm36":
        return charmm.load(*more)
    return app.ForceField(FORCEFIELDS[forcefield], *nonstandard.template_files(forcefield), *more)


def create_openmm_system(
    topology: "app.Topology", forcefield: str, solvent: str, cutoff: float | None = None
) -> "openmm.System":
    """Parametrise a topology: flexible bonds, true masses, no centre-of-mass removal.

    Parameters
    ----------
    topology
        OpenMM topology with all hydrogens.
    forcefield, solvent
        A pair of `PAIRS`.
    cutoff
        nm; None means that every pair of atoms interacts. With a cutoff, Coulomb is q q (1/r - 1/cutoff) in every
        solvent: the reaction field has dielectric 1.

    Raises
    ------
    InputError
        For an invalid pair or cutoff, or if a residue has no template in the force field.
    """
    import openmm
    from openmm import app

    check_pair(forcefield, solvent)
    if cutoff is not None and not 0 < cutoff < float("inf"):
        raise InputError(f"cutoff: got {cutoff}; give a positive length in nm or none at all")
    nonstandard.check(topology, forcefield)
    method = app.NoCutoff if cutoff is None else app.CutoffNonPeriodic
    if forcefield == "charmm36":
        topology = charmm.merge_caps(topology)
    try:
        system = _force_field(forcefield, solvent).createSystem(
            topology,
            nonbondedMethod=method,  # pyright: ignore[reportArgumentType]
            nonbondedCutoff=nanometers(cutoff or 1.0),
            constraints=None,
            rigidWater=False,
            removeCMMotion=False,
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"forcefield {forcefield}: cannot describe this molecule ({reason})") from error
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            # OpenMM's default of 78.3 would put water around a molecule in vacuum.
            force.setReactionFieldDielectric(1.0)
    return system
