"""Small peptides made with OpenMM alone, so that these tests depend on no other part of the package.

Those of CHARMM36 are the exception: its terminal patches are a matter for `gibbsian.chem`.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import openmm as mm
from openmm import app, unit

from gibbsian.chem.nonstandard import template_files
from gibbsian.chem.system import System

FIELDS = {
    "amber99sbildn": "amber99sbildn.xml",
    "amber96": "amber96.xml",
    "amber14": "amber14/protein.ff14SB.xml",
    "amber19": "amber19/protein.ff19SB.xml",
    "amberfb15": "amberfb15.xml",
}
SOLVENTS = {
    "amber96_obc": "amber96_obc.xml",
    "amber99_obc": "amber99_obc.xml",
    **{name: f"implicit/{name}.xml" for name in ("hct", "obc1", "obc2", "gbn", "gbn2")},
}


@lru_cache
def forcefield(field: str, solvent: str) -> app.ForceField:
    return app.ForceField(FIELDS[field], *template_files(field), *([SOLVENTS[solvent]] if solvent in SOLVENTS else []))


def topology(sequence: str, templates: dict[str, Any]) -> app.Topology:
    """Atoms and bonds of a chain from residue templates; ends without caps are charged."""
    result = app.Topology()
    chain = result.addChain()
    names = sequence.split("-")
    previous = None
    for number, name in enumerate(names):
        end = {0: "N", len(names) - 1: "C"}.get(number, "")
        template = templates[name if name in ("ACE", "NME") else end + name]
        residue = result.addResidue(name, chain)
        atoms = [result.addAtom(atom.name, atom.element, residue) for atom in template.atoms]
        for i, j in template.bonds:
            result.addBond(atoms[i], atoms[j])
        byname = {atom.name: atom for atom in atoms}
        if previous is not None:
            result.addBond(previous, byname["N"])
        previous = byname.get("C")
    return result


@lru_cache
def molecule(
    sequence: str,
    field: str = "amber99sbildn",
    solvent: str = "amber99_obc",
    cutoff: float | None = None,
    kappa: float = 0.0,
    surface: str | None = "ACE",
) -> tuple[mm.System, np.ndarray]:
    """OpenMM System and relaxed positions (nm)."""
    if field == "charmm36":
        built = System.from_sequence(sequence, field, solvent, cutoff)
        return built.openmm_system, built.positions
    ff = forcefield(field, solvent)
    top = topology(sequence, ff._templates)
    method = {"nonbondedMethod": app.NoCutoff}
    if cutoff is not None:
        method = {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff * unit.nanometer}
    options = {} if solvent in ("amber96_obc", "amber99_obc", "vacuum") else {"sasaMethod": surface}
    if kappa:
        options["implicitSolventKappa"] = kappa
    system = ff.createSystem(top, constraints=None, removeCMMotion=False, **method, **options)
    return system, relaxed(sequence, field)


@lru_cache
def relaxed(sequence: str, field: str) -> np.ndarray:
    """Extended chain, made from noise by minimising bonded terms, then everything, in vacuum."""
    ff = forcefield(field, "vacuum")
    top = topology(sequence, ff._templates)
    rng = np.random.default_rng(1)
    n = top.getNumAtoms()
    positions = rng.normal(0.0, 0.08, (n, 3))
    positions[:, 0] += [0.36 * atom.residue.index for atom in top.atoms()]
    for bonded_only in (True, False):
        system = ff.createSystem(top, removeCMMotion=False)
        if bonded_only:
            for index in reversed(range(system.getNumForces())):
                if isinstance(system.getForce(index), mm.NonbondedForce | mm.CMAPTorsionForce):
                    system.removeForce(index)
        context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
        context.setPositions(positions)
        mm.LocalEnergyMinimizer.minimize(context, 1.0, 2000)
        positions = context.getState(getPositions=True).getPositions(asNumpy=True)._value
    return np.asarray(positions)


def oracle(system: mm.System, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces of OpenMM's Reference platform."""
    context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    energies, forces = [], []
    for frame in x:
        context.setPositions(frame)
        state = context.getState(getEnergy=True, getForces=True)
        energies.append(state.getPotentialEnergy()._value)
        forces.append(state.getForces(asNumpy=True)._value)
    return np.array(energies), np.array(forces)


def noisy(positions: np.ndarray, n: int, scale: float, seed: int = 0) -> np.ndarray:
    return positions + scale * np.random.default_rng(seed).normal(size=(n, *positions.shape))
