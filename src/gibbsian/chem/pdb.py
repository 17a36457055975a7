"""Read PDB and mmCIF files: one protein chain, repaired and checked."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem import nonstandard
from gibbsian.chem.build import add_hydrogens, assemble
from gibbsian.chem.convert import in_nanometers, nanometers
from gibbsian.chem.extend import heavy_chain
from gibbsian.chem.hydrogens import relabel_hydrogens
from gibbsian.chem.pdb_checks import check_backbone, check_chirality, describe, is_solvent, screen
from gibbsian.chem.residues import ALIASES, NONSTANDARD, VARIANTS
from gibbsian.chem.sequence import read_lines, with_termini
from gibbsian.chem.topology import Topology
from gibbsian.errors import InputError

if TYPE_CHECKING:
    from openmm import app
    from pdbfixer import PDBFixer

    from gibbsian.chem.system import System

Floats = NDArray[np.float64]

PDB_SUFFIXES = (".pdb", ".ent")
CIF_SUFFIXES = (".cif", ".mmcif", ".pdbx")


def from_pdb(
    path: str | Path,
    forcefield: str | None = None,
    solvent: str | None = None,
    cutoff: float | None = None,
    temperature: float | None = None,
    termini: str | None = None,
) -> "System":
    """Read one chain and repair it; see `System.from_pdb`."""
    path = Path(path)
    fixer, lines = _open(path)
    changes = _alternatives(path, lines)
    changes += _remove_solvent(fixer)
    screen(path, fixer.topology)
    x = in_nanometers(fixer.positions)
    check_backbone(path, fixer.topology, x)
    check_chirality(path, fixer.topology, x)
    named = _named_variants(path, lines)
    changes += _add_heavy_atoms(path, fixer, termini)
    x = in_nanometers(fixer.positions)
    residues = list(fixer.topology.residues())
    variants = [named.get(str(r.id)) if not _has_hydrogens(r) else None for r in residues]
    _, kind = with_termini([r.name for r in residues], None)
    settings = (kind, forcefield, solvent, cutoff, temperature)
    try:
        topology, x, added = _complete(fixer.topology, x, variants)
        return _finish(topology, x, changes, added, settings)
    except InputError:
        if not any(_has_hydrogens(r) for r in residues):
            raise
    # Hydrogens that no template knows (other names, other protonation): ours take their place.
    stripped, x = _without_hydrogens(fixer.topology, in_nanometers(fixer.positions))
    variants = [named.get(str(r.id)) for r in residues]
    topology, x, added = _complete(stripped, x, variants)
    changes.append("Replaced all hydrogens, because those in the file do not fit the force field.")
    return _finish(topology, x, changes, added, settings)


def _finish(topology: Topology, x: Floats, changes: list[str], added: int, settings: tuple) -> "System":
    changes = list(changes)
    if added:
        named = zip(topology.residue_names, topology.residue_ids, strict=True)
        chosen = [f"{name} {number}" for name, number in named if name in VARIANTS]
        states = f"; protonation states {', '.join(chosen)}" if chosen else ""
        changes.append(f"Added {added} hydrogens for pH 7{states}.")
    repaired = any(not c.startswith(("Removed", "Kept")) for c in changes)
    if repaired:
        changes.append("Relaxed the structure by a short minimisation.")
    return assemble(topology, x, *settings, minimise=repaired, changes=tuple(changes))


def _open(path: Path) -> tuple["PDBFixer", list[str]]:
    from pdbfixer import PDBFixer

    suffix = path.suffix.lower()
    lines = read_lines(path)
    if suffix not in PDB_SUFFIXES + CIF_SUFFIXES:
        known = ", ".join(PDB_SUFFIXES + CIF_SUFFIXES)
        raise InputError(f"{path}: unknown kind of file {suffix!r}; give one of {known}")
    import openmm

    platform = openmm.Platform.getPlatform("Reference")
    nonstandard.define()
    try:
        with path.open() as file:  # PDBFixer would leave a damaged file open
            source = {"pdbxfile" if suffix in CIF_SUFFIXES else "pdbfile": file}
            fixer = PDBFixer(**source, platform=platform)
    except Exception as error:  # whatever a parser meets in a damaged file
        raise InputError(f"{path}: cannot be read ({_first_line(error)}); repair the file") from error
    if fixer.topology.getNumAtoms() == 0:
        raise InputError(f"{path}: has no atoms; give a structure with one protein chain")
    x = in_nanometers(fixer.positions)
    bad = np.flatnonzero(~np.isfinite(x).all(-1))
    if len(bad):
        atom = list(fixer.topology.atoms())[bad[0]]
        raise InputError(f"{path}: {describe(atom.residue)}: atom {atom.name} has no finite position; repair the file")
    return fixer, lines


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _alternatives(path: Path, lines: list[str]) -> list[str]:
    changes = []
    if path.suffix.lower() in PDB_SUFFIXES:
        models = sum(line.startswith("MODEL ") for line in lines)
        atoms = [line for line in lines if line.startswith(("ATOM", "HETATM")) and len(line) > 26]
        marked = {line[21:27] for line in atoms if line[16] != " "}
    else:
        rows = _atom_sites(lines)
        models = len({row.get("pdbx_PDB_model_num", "1") for row in rows})
        marked = {row.get("auth_seq_id") for row in rows if row.get("label_alt_id", ".") not in ".?"}
    if marked:
        changes.append(f"Kept the first of the alternative locations in {len(marked)} residue(s).")
    if models > 1:
        changes.append(f"Kept the first of {models} models.")
    return changes


def _atom_sites(lines: list[str]) -> list[dict[str, str]]:
    columns = [line.strip().removeprefix("_atom_site.") for line in lines if line.startswith("_atom_site.")]
    rows = [line.split() for line in lines if line.startswith(("ATOM", "HETATM"))]
    return [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]


def _named_variants(path: Path, lines: list[str]) -> dict[str, str]:
    """Protonation that the residue names ask for, by residue number; OpenMM's parser drops it."""
    if path.suffix.lower() in PDB_SUFFIXES:
        pairs = {(line[22:27].strip(), line[17:21].strip()) for line in lines if line.startswith("ATOM")}
    else:
        pairs = {(row.get("auth_seq_id", ""), row.get("auth_comp_id", "")) for row in _atom_sites(lines)}
    aliases = {old: new for old, new in ALIASES.items() if old != "HIS"}
    names = {number: aliases.get(name, name) for number, name in pairs}
    return {number: "CYX" if name == "CYM" else name for number, name in names.items() if name in VARIANTS}


def _remove_solvent(fixer: "PDBFixer") -> list[str]:
    from openmm import app

    solvent = [r for r in fixer.topology.residues() if is_solvent(r)]
    if not solvent:
        return []
    counts = Counter(r.name for r in solvent)
    modeller = app.Modeller(fixer.topology, fixer.positions)
    modeller.delete(solvent)
    fixer.topology, fixer.positions = modeller.topology, modeller.positions
    return [f"Removed solvent: {', '.join(f'{n} {name}' for name, n in sorted(counts.items()))}."]


def _add_heavy_atoms(path: Path, fixer: "PDBFixer", termini: str | None) -> list[str]:
    residues = list(fixer.topology.residues())
    wanted, _ = with_termini([r.name for r in residues], termini)
    changes = []
    fixer.findMissingResidues()
    inside = {key: names for key, names in fixer.missingResidues.items() if 0 < key[1] < len(residues)}
    for (_, k), names in inside.items():
        where = f"{describe(residues[k - 1])} and {describe(residues[k])}"
        raise InputError(f"{path}: broken chain, {'-'.join(names)} missing between {where}; complete the structure")
    ends = sum(len(names) for names in fixer.missingResidues.values())
    if ends:
        changes.append(f"Kept the chain without {ends} end residue(s) that are listed but have no coordinates.")
    fixer.missingResidues = {}
    if wanted[0] != residues[0].name:
        fixer.missingResidues[(0, 0)] = ["ACE"]
    if wanted[-1] != residues[-1].name:
        fixer.missingResidues[(0, len(residues))] = ["NME"]
    if fixer.missingResidues:
        changes.append(f"Added the caps {', '.join(n for v in fixer.missingResidues.values() for n in v)}.")
        _open_ends(fixer)
    _teach_nonstandard(fixer)
    fixer.findMissingAtoms()
    for kind in (fixer.missingAtoms, fixer.missingTerminals):
        for residue, atoms in kind.items():
            names = ", ".join(a if isinstance(a, str) else a.name for a in atoms)
            changes.append(f"Added missing atoms of {describe(residue)}: {names}.")
    if fixer.missingAtoms or fixer.missingTerminals or fixer.missingResidues:
        fixer.addMissingAtoms(seed=0)
    return changes


def _teach_nonstandard(fixer: "PDBFixer") -> None:
    """Give PDBFixer, which knows the twenty residues only, the heavy atoms of the others."""
    from openmm import app

    for name in NONSTANDARD & {residue.name for residue in fixer.topology.residues()}:
        topology, positions = heavy_chain([name])
        modeller = app.Modeller(topology, nanometers(positions))
        modeller.delete([atom for atom in topology.atoms() if atom.name == "OXT"])
        fixer.registerTemplate(modeller.topology, modeller.positions)


def _open_ends(fixer: "PDBFixer") -> None:
    """Delete what a charged end has and a capped one has not."""
    from openmm import app

    residues = list(fixer.topology.residues())
    extra = [
        a for a in residues[-1].atoms() if a.name in ("OXT", "HXT") and (0, len(residues)) in fixer.missingResidues
    ]
    if (0, 0) in fixer.missingResidues:
        extra += [a for a in residues[0].atoms() if a.name in ("H", "H1", "H2", "H3")]
    modeller = app.Modeller(fixer.topology, fixer.positions)
    modeller.delete(extra)
    fixer.topology, fixer.positions = modeller.topology, modeller.positions


def _has_hydrogens(residue: "app.topology.Residue") -> bool:
    return any(a.element is not None and a.element.symbol == "H" for a in residue.atoms())


def _without_hydrogens(topology: "app.Topology", positions: Floats) -> tuple["app.Topology", Floats]:
    from openmm import app

    modeller = app.Modeller(topology, nanometers(positions))
    modeller.delete([a for a in topology.atoms() if a.element is not None and a.element.symbol in ("H", "D")])
    return modeller.topology, in_nanometers(modeller.positions)


def _complete(topology: "app.Topology", positions: Floats, variants: list[str | None]) -> tuple[Topology, Floats, int]:
    result, x = add_hydrogens(topology, positions, variants)
    return result, relabel_hydrogens(result, x), result.n_atoms - topology.getNumAtoms()
