"""From a sequence, or from an OpenMM model, to a System. The same input gives the same System, bit for bit."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem import nonstandard
from gibbsian.chem.convert import in_nanometers, nanometers, to_openmm, topology_from_openmm
from gibbsian.chem.extend import heavy_chain
from gibbsian.chem.forcefield import create_openmm_system
from gibbsian.chem.hydrogens import place_hydrogens, relabel_hydrogens
from gibbsian.chem.residues import CAPS, VARIANTS
from gibbsian.chem.sequence import parse_sequence, with_termini
from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError

if TYPE_CHECKING:
    import openmm
    from openmm import app

    from gibbsian.chem.system import System

Floats = NDArray[np.float64]

FORCEFIELD, SOLVENT, TEMPERATURE = "amber14", "obc1", 300.0
"""Defaults for molecules that are not built in: ff14SB with OBC1, as in the published peptide benchmarks."""


def check_temperature(temperature: float) -> float:
    """Return the temperature as a float, or raise an InputError if it is not a positive number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature: got {temperature}; give a positive number of kelvin")
    return float(temperature)


def from_sequence(
    sequence: str,
    forcefield: str | None = None,
    solvent: str | None = None,
    cutoff: float | None = None,
    temperature: float | None = None,
    termini: str | None = None,
) -> "System":
    """Build an extended L-peptide; see `System.from_sequence`."""
    names, kind = with_termini(parse_sequence(sequence), termini)
    if len(names) == 1 and (forcefield or FORCEFIELD) != "charmm36":
        raise InputError(f"sequence {sequence!r}: Amber has no residue with two charged ends; use termini capped")
    if "CYX" in names:
        raise InputError(f"sequence {sequence!r}: CYX needs its partner; use CYS, or give a PDB file with the bridge")
    heavy, positions = heavy_chain(names)
    topology, x = add_hydrogens(heavy, positions, [_variant(name) for name in names])
    return assemble(topology, x, kind, forcefield, solvent, cutoff, temperature, minimise=True)


def _variant(name: str) -> str | None:
    if name == "CYM":
        return "CYX"  # OpenMM's name for cysteine without HG, bridged or not
    neutral_or_charged = {"ASP", "GLU", "LYS", "CYS", *VARIANTS}
    return name if name in neutral_or_charged else None


def add_hydrogens(topology: "app.Topology", positions: Floats, variants: list[str | None]) -> tuple[Topology, Floats]:
    """Add missing hydrogens (pH 7 where no variant is named) at ideal geometry; those present keep their places.

    Parameters
    ----------
    topology, positions
        OpenMM topology, all heavy atoms present, (n, 3) nm.
    variants
        One protonation variant or None per residue.
    """
    import openmm
    from openmm import app

    nonstandard.define()
    heavy = [(atom.residue.index, atom.name) for atom in topology.atoms()]
    kept = {label: positions[i] for i, label in enumerate(heavy)}
    modeller = app.Modeller(topology, nanometers(positions))
    # OpenMM decides which hydrogens there are; it starts from random positions, so theirs are not used.
    modeller.addHydrogens(pH=7.0, variants=variants, platform=openmm.Platform.getPlatform("CPU"))
    result = topology_from_openmm(modeller.topology)
    labels = list(zip(result.residue_index.tolist(), result.atom_names, strict=True))
    x = np.zeros((result.n_atoms, 3))
    for i, label in enumerate(labels):
        x[i] = kept.get(label, 0.0)
    added = [i for i, label in enumerate(labels) if label not in kept]
    return result, place_hydrogens(result, x, added)


def assemble(
    topology: Topology,
    positions: Floats,
    termini: str,
    forcefield: str | None,
    solvent: str | None,
    cutoff: float | None,
    temperature: float | None,
    minimise: bool,
    changes: tuple[str, ...] = (),
) -> "System":
    """Parametrise a complete molecule; None means the default."""
    from gibbsian.chem.system import System

    forcefield, solvent = forcefield or FORCEFIELD, solvent or SOLVENT
    temperature = check_temperature(TEMPERATURE if temperature is None else temperature)
    openmm_system = create_openmm_system(to_openmm(topology), forcefield, solvent, cutoff)
    if minimise:
        positions = relabel_hydrogens(topology, relax(openmm_system, positions))
    return System(
        sequence="-".join(topology.residue_names),
        termini=termini,
        forcefield=forcefield,
        solvent=solvent,
        cutoff=cutoff,
        temperature=temperature,
        topology=topology,
        positions=positions,
        openmm_system=openmm_system,
        changes=changes + nonstandard.remarks(topology.residue_names, topology.residue_ids, forcefield),
    )


def relax(openmm_system: "openmm.System", positions: Floats, iterations: int = 200) -> Floats:
    """Minimise briefly on one thread, so that two runs agree bit for bit; (n_atoms, 3) nm.

    Up to 150 atoms in the full force field; larger molecules without solvent and in single precision, which is enough
    to remove clashes and takes a hundredth of the time.
    """
    import openmm

    platform, settings = openmm.Platform.getPlatform("Reference"), {}
    if len(positions) > 150:
        platform, settings = openmm.Platform.getPlatform("CPU"), {"Threads": "1", "DeterministicForces": "true"}
        openmm_system = openmm.XmlSerializer.clone(openmm_system)
        for k in reversed(range(openmm_system.getNumForces())):
            if isinstance(openmm_system.getForce(k), (openmm.GBSAOBCForce, openmm.CustomGBForce)):
                openmm_system.removeForce(k)
    context = openmm.Context(openmm_system, openmm.VerletIntegrator(0.001), platform, settings)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, iterations)
    state = context.getState(positions=True)
    return in_nanometers(state.getPositions(asNumpy=True))


def from_openmm(
    topology: "app.Topology", openmm_system: "openmm.System", positions: Floats, temperature: float
) -> "System":
    """Wrap a model made elsewhere; see `System.from_openmm`."""
    from openmm import unit

    from gibbsian.chem.system import System

    plain_numbers = in_nanometers(positions) if unit.is_quantity(positions) else np.asarray(positions, dtype=np.float64)
    x = plain_numbers.reshape(-1, 3)
    counts = {"topology": topology.getNumAtoms(), "system": openmm_system.getNumParticles(), "positions": len(x)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"from_openmm: numbers of atoms differ ({listed}); pass three parts of one model")
    if not np.isfinite(x).all():
        raise InputError(f"from_openmm: atom {int(np.argwhere(~np.isfinite(x))[0, 0])} has no finite position; mend it")
    if openmm_system.getNumConstraints():
        raise InputError("from_openmm: the system has constraints; create it with constraints=None, rigidWater=False")
    plain = topology_from_openmm(topology)
    cutoff = _cutoff(openmm_system)
    ends = [name in CAPS for name in (plain.residue_names[0], plain.residue_names[-1])]
    return System(
        sequence="-".join(plain.residue_names),
        termini="capped" if all(ends) else "custom",
        forcefield="custom",
        solvent="custom",
        cutoff=cutoff,
        temperature=check_temperature(temperature),
        topology=plain,
        positions=relabel_hydrogens(plain, x),
        openmm_system=openmm_system,
    )


def _cutoff(openmm_system: "openmm.System") -> float | None:
    import openmm

    for force in openmm_system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            method = force.getNonbondedMethod()
            if method == openmm.NonbondedForce.NoCutoff:
                return None
            if method != openmm.NonbondedForce.CutoffNonPeriodic:
                raise InputError("from_openmm: the system is periodic; only isolated molecules are supported")
            return float(in_nanometers(force.getCutoffDistance()))
    return None
