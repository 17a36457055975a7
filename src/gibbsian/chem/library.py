"""Built-in systems, and the one way from what a person types to a System."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from gibbsian.chem import build, pdb
from gibbsian.chem.sequence import FASTA_SUFFIXES, read_fasta
from gibbsian.errors import InputError

if TYPE_CHECKING:
    from gibbsian.chem.system import System


@dataclass(frozen=True)
class BuiltIn:
    """One file of `gibbsian/recipes/systems`.

    Attributes
    ----------
    name
        What a person types.
    termini, forcefield, solvent, cutoff, temperature
        As in `System`.
    note
        One sentence about it.
    sequence, structure
        One of the two: a sequence, or a file of `gibbsian/chem/structures` (``openmm:`` for one that OpenMM ships).
    mutation
        Residue of the structure, its number and the residue that takes its place: ``HIE 27 ASN``; several are
        separated by commas. The new side chains grow from CB.
    """

    name: str
    termini: str
    forcefield: str
    solvent: str
    cutoff: float | None
    temperature: float
    note: str
    sequence: str | None = None
    structure: str | None = None
    mutation: str | None = None


@cache
def _table() -> dict[str, BuiltIn]:
    folder = files("gibbsian.recipes") / "systems"
    entries = [
        BuiltIn(**yaml.safe_load(file.read_text()))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    ]
    return {entry.name: entry for entry in entries}


def built_in_names() -> list[str]:
    """Names that `built_in` knows."""
    return list(_table())


def describe_built_in(name: str) -> BuiltIn:
    """Return the settings of a built-in system. An unknown name is an InputError that lists the known ones."""
    try:
        return _table()[name]
    except KeyError:
        known = ", ".join(built_in_names())
        raise InputError(f"system: unknown {name!r}; built in are {known}") from None


def built_in(
    name: str,
    forcefield: str | None = None,
    solvent: str | None = None,
    cutoff: float | None = None,
    temperature: float | None = None,
    termini: str | None = None,
) -> "System":
    """Build a built-in system; what is not None replaces its own setting.

    Raises
    ------
    InputError
        If the name is unknown or an override is invalid.
    """
    entry = describe_built_in(name)
    settings = (
        forcefield or entry.forcefield,
        solvent or entry.solvent,
        entry.cutoff if cutoff is None else cutoff,
        entry.temperature if temperature is None else temperature,
        termini or entry.termini,
    )
    if entry.sequence is not None:
        return build.from_sequence(entry.sequence, *settings)
    structure = _structure(str(entry.structure))
    if entry.mutation is None:
        return pdb.from_pdb(structure, *settings)
    with TemporaryDirectory() as folder:
        return pdb.from_pdb(_mutated(structure, entry.mutation, Path(folder)), *settings)


def _structure(name: str) -> Path:
    if name.startswith("openmm:"):
        from openmm import app

        return Path(app.__file__).parent / "data" / name.removeprefix("openmm:")
    return Path(str(files("gibbsian.chem") / "structures" / name))


def _mutated(structure: Path, mutation: str, folder: Path) -> Path:
    """Copy a PDB file with residues renamed and cut back to what all residues but glycine share."""
    changes = {(old, number): new for old, number, new in (change.split() for change in mutation.split(","))}
    lines, done = [], set()
    for line in structure.read_text().splitlines():
        residue = line[17:20], line[22:26].strip()
        if line.startswith("ATOM") and residue in changes:
            done.add(residue)
            if line[12:16].strip() not in _COMMON:
                continue
            line = f"{line[:17]}{changes[residue]}{line[20:]}"
        lines.append(line)
    if done != set(changes):
        raise ValueError(f"{structure.name} lacks a residue of the mutation {mutation!r}")
    copy = folder / structure.name
    copy.write_text("\n".join(lines) + "\n")
    return copy


_COMMON = ("N", "CA", "C", "O", "CB")


def resolve(
    what: str | Path,
    forcefield: str | None = None,
    solvent: str | None = None,
    cutoff: float | None = None,
    temperature: float | None = None,
    termini: str | None = None,
) -> "System":
    """Turn a built-in name, a sequence, or a FASTA, PDB or mmCIF file into a System.

    A built-in name comes first, then anything with a folder or a known suffix in it is a file, the rest is a sequence.
    None means the default: that of the built-in system, or of `System.from_sequence`.

    Raises
    ------
    InputError
        Whatever is wrong with the input, in one line.
    """
    text = str(what).strip()
    settings = (forcefield, solvent, cutoff, temperature, termini)
    if text in _table():
        return built_in(text, *settings)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in FASTA_SUFFIXES:
        return build.from_sequence(read_fasta(path), *settings)
    if suffix or len(path.parts) > 1 or path.is_dir():
        return pdb.from_pdb(path, *settings)
    return build.from_sequence(text, *settings)
