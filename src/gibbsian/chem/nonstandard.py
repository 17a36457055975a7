"""Residues beyond the twenty of the genetic code: which force field has a template, and what to say of it."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from gibbsian.errors import InputError

if TYPE_CHECKING:
    from openmm import app


@dataclass(frozen=True)
class Template:
    """A force field's template for a residue that its own file lacks.

    Attributes
    ----------
    file
        In `gibbsian/chem/templates`; a comment in it gives the origin of every number.
    remark
        What every System with this residue says in its `changes`.
    inner
        Whether it only describes residues inside a chain, not those with a charged end.
    """

    file: str
    remark: str
    inner: bool = False


TEMPLATES: dict[str, dict[str, Template]] = {
    "NLE": {
        "amber14": Template(
            "NLE.amber14.xml",
            "transferred charges: ff14SB has no norleucine; types are those of Lys, charges those of neutral Lys "
            "and of the end of Ile",
            inner=True,
        ),
        "charmm36": Template(
            "NLE.charmm36.xml",
            "CHARMM's template, charges and types, which OpenMM has in charmm36.xml but not in charmm36_2024.xml",
        ),
    },
}
"""By residue and force field."""


@cache
def define() -> None:
    """Tell OpenMM the bonds and hydrogens of these residues; it forgets nothing, so once is enough."""
    from openmm import app

    for name in TEMPLATES:
        path = _path(f"{name}.xml")
        app.Topology.loadBondDefinitions(path)
        app.Modeller.loadHydrogenDefinitions(path)


def template_files(forcefield: str) -> list[str]:
    """Paths of the templates for a force field."""
    return [_path(found[forcefield].file) for found in TEMPLATES.values() if forcefield in found]


def _path(name: str) -> str:
    return str(files("gibbsian.chem") / "templates" / name)


def template_residues(forcefield: str) -> list[ElementTree.Element]:
    """Residues of these templates as XML."""
    return [residue for path in template_files(forcefield) for residue in ElementTree.parse(path).iter("Residue")]


def check(topology: "app.Topology", forcefield: str) -> None:
    """Raise an InputError for a residue without a template in the force field."""
    residues = list(topology.residues())
    for k, residue in enumerate(residues):
        known = TEMPLATES.get(residue.name)
        if known is None:
            continue
        where = f"{residue.name} {residue.id}"
        template = known.get(forcefield)
        if template is None:
            raise InputError(f"forcefield {forcefield}: no template for {where}; choose one of {', '.join(known)}")
        if template.inner and k in (0, len(residues) - 1):
            raise InputError(
                f"forcefield {forcefield}: no template for {where} at the end of a chain; use termini capped"
            )


def remarks(names: tuple[str, ...], numbers: tuple[str, ...], forcefield: str) -> tuple[str, ...]:
    """One sentence for each kind of these residues in a molecule, from its residues' names and numbers."""
    said = []
    for name, known in TEMPLATES.items():
        where = [f"{name} {number}" for found, number in zip(names, numbers, strict=True) if found == name]
        if where and forcefield in known:
            said.append(f"{', '.join(where)}: {known[forcefield].remark}.")
    return tuple(said)
