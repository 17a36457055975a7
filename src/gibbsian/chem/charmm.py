"""CHARMM36 for peptides alone: OpenMM's file cut to what a single chain of amino acids can use.

CHARMM makes the ends of a chain by patches. Faced with an end, OpenMM applies every combination of patches to every
one of the 635 residues in its file, lipids and nucleic acids included: 80 000 templates, made anew for each System.
"""

import io
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from gibbsian.chem import nonstandard
from gibbsian.chem.residues import ALIASES, C_CAPS, CAPS, N_CAPS

if TYPE_CHECKING:
    from openmm import app

FILE = "charmm36_2024.xml"

_RESIDUES = frozenset({
    "ALA", "ARG", "ASN", "ASP", "CYS", "CYM", "GLN", "GLU", "GLY", "HSD", "HSE", "HSP", "ILE", "LEU", "LYS", "MET",
    "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
})  # fmt: skip
_PATCHES = frozenset({"NTER", "GLYP", "PROP", "ACE", "CTER", "CT2", "CT3", "ASPP", "GLUP", "LSN", "DISU"})
"""Charged ends, also of Gly and Pro; ACE, NH2 and NME; neutral Asp, Glu and Lys; disulphide bridges."""


def load(*more: str) -> "app.ForceField":
    """CHARMM36 for peptides, with further OpenMM files such as a solvent's. Takes about a second the first time."""
    from openmm import app

    return app.ForceField(io.StringIO(_protein_part()), *more)


@lru_cache(maxsize=1)
def _protein_part() -> str:
    """Residues, patches and atom types of peptides; of the parameters OpenMM skips those of unknown types itself."""
    root = ElementTree.fromstring((files("openmm.app") / "data" / FILE).read_bytes())
    types, residues, patches = (_section(root, tag) for tag in ("AtomTypes", "Residues", "Patches"))
    residues[:] = [residue for residue in residues if residue.get("name") in _RESIDUES]
    residues.extend(nonstandard.template_residues("charmm36"))
    patches[:] = [patch for patch in patches if _wanted(patch)]
    for residue in residues:
        residue[:] = [item for item in residue if item.tag != "AllowPatch" or _wanted(item)]
    used = {atom.get("type") for section in (residues, patches) for atom in section.iter()}
    types[:] = [kind for kind in types if kind.get("name") in used]
    classes = {kind.get("class") for kind in types}
    bends = _section(root, "AmoebaUreyBradleyForce")  # the one list that OpenMM scans from the top for every angle
    bends[:] = [bend for bend in bends if {bend.get(f"class{k}") for k in (1, 2, 3)} <= classes]
    return ElementTree.tostring(root, encoding="unicode")


def _section(root: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = root.find(tag)
    if found is None:
        raise ValueError(f"{FILE} has no {tag}")
    return found


def _wanted(patch: ElementTree.Element) -> bool:
    # The file numbers the forms of a patch that differ in what they remove: NTER_0, NTER_1.
    return patch.get("name", "").rsplit("_", 1)[0] in _PATCHES


def merge_caps(topology: "app.Topology") -> "app.Topology":
    """Copy in which a cap is part of its neighbour, as CHARMM's terminal patches want it; atoms keep their order."""
    from openmm import app

    residues = list(topology.residues())
    merged = app.Topology()
    chain = merged.addChain()
    atoms = {}
    target = None
    for k, residue in enumerate(residues):
        name = ALIASES.get(residue.name, residue.name)
        joins = name in C_CAPS or (k > 0 and residues[k - 1].name in N_CAPS)
        if target is None or not joins:
            target = merged.addResidue(name if name not in CAPS else residues[k + 1].name, chain)
        for atom in residue.atoms():
            label = f"{name}_{atom.name}" if name in CAPS else atom.name
            atoms[atom] = merged.addAtom(label, atom.element, target)
    for bond in topology.bonds():
        merged.addBond(atoms[bond[0]], atoms[bond[1]])
    return merged
