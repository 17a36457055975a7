"""Heavy atoms of an extended chain from ideal bond lengths, angles and rotamers."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem import nonstandard
from gibbsian.chem.hydrogens import place
from gibbsian.chem.residues import parent

if TYPE_CHECKING:
    from openmm import app

Floats = NDArray[np.float64]
Row = tuple[str, str, str, str, float, float, float]
"""atom, bonded to, angle with, torsion with; Angstrom, degrees, degrees."""

_CB: Row = ("CB", "CA", "C", "N", 1.53, 109.5, 122.6)
_PHI, _PSI, _OMEGA = -120.0, 125.0, 180.0
_PHI_PRO = -68.0


def _ring(*last: Row) -> tuple[Row, ...]:
    return (
        ("CG", "CB", "CA", "N", 1.51, 113.8, -62.0),
        ("CD1", "CG", "CB", "CA", 1.39, 120.7, 90.0),
        ("CD2", "CG", "CB", "CA", 1.39, 120.7, -90.0),
        ("CE1", "CD1", "CG", "CB", 1.39, 120.7, 180.0),
        ("CE2", "CD2", "CG", "CB", 1.39, 120.7, 180.0),
        ("CZ", "CE1", "CD1", "CG", 1.39, 120.0, 0.0),
        *last,
    )


_SIDE: dict[str, tuple[Row, ...]] = {
    "GLY": (),
    "ALA": (),
    "SER": (("OG", "CB", "CA", "N", 1.417, 110.8, -62.0),),
    "CYS": (("SG", "CB", "CA", "N", 1.808, 113.8, -62.0),),
    "THR": (("OG1", "CB", "CA", "N", 1.43, 109.2, 60.0), ("CG2", "CB", "CA", "N", 1.53, 111.1, -60.3)),
    "VAL": (("CG1", "CB", "CA", "N", 1.527, 110.7, 177.2), ("CG2", "CB", "CA", "N", 1.527, 110.4, -63.3)),
    "LEU": (
        ("CG", "CB", "CA", "N", 1.53, 116.1, -62.0),
        ("CD1", "CG", "CB", "CA", 1.524, 110.3, 175.0),
        ("CD2", "CG", "CB", "CA", 1.525, 110.6, -63.0),
    ),
    "ILE": (
        ("CG1", "CB", "CA", "N", 1.527, 110.7, -62.0),
        ("CG2", "CB", "CA", "N", 1.527, 110.4, 176.0),
        ("CD1", "CG1", "CB", "CA", 1.52, 114.0, 170.0),
    ),
    "MET": (
        ("CG", "CB", "CA", "N", 1.52, 113.7, -65.0),
        ("SD", "CG", "CB", "CA", 1.81, 112.7, 180.0),
        ("CE", "SD", "CG", "CB", 1.79, 100.6, 180.0),
    ),
    "ASP": (
        ("CG", "CB", "CA", "N", 1.52, 113.1, -66.0),
        ("OD1", "CG", "CB", "CA", 1.25, 119.2, -40.0),
        ("OD2", "CG", "CB", "CA", 1.25, 118.2, 140.0),
    ),
    "ASN": (
        ("CG", "CB", "CA", "N", 1.52, 112.6, -65.5),
        ("OD1", "CG", "CB", "CA", 1.23, 120.9, -58.0),
        ("ND2", "CG", "CB", "CA", 1.33, 116.5, 122.0),
    ),
    "GLU": (
        ("CG", "CB", "CA", "N", 1.52, 113.8, -63.8),
        ("CD", "CG", "CB", "CA", 1.52, 113.3, -179.8),
        ("OE1", "CD", "CG", "CB", 1.25, 119.0, -6.2),
        ("OE2", "CD", "CG", "CB", 1.25, 118.1, 173.8),
    ),
    "GLN": (
        ("CG", "CB", "CA", "N", 1.52, 113.8, -60.2),
        ("CD", "CG", "CB", "CA", 1.52, 112.8, -180.0),
        ("OE1", "CD", "CG", "CB", 1.24, 120.9, -50.5),
        ("NE2", "CD", "CG", "CB", 1.33, 116.5, 129.5),
    ),
    "LYS": (
        ("CG", "CB", "CA", "N", 1.52, 113.8, -64.5),
        ("CD", "CG", "CB", "CA", 1.52, 111.8, 180.0),
        ("CE", "CD", "CG", "CB", 1.52, 111.7, 180.0),
        ("NZ", "CE", "CD", "CG", 1.49, 111.9, 180.0),
    ),
    "NLE": (
        ("CG", "CB", "CA", "N", 1.52, 113.8, -64.5),
        ("CD", "CG", "CB", "CA", 1.52, 111.8, 180.0),
        ("CE", "CD", "CG", "CB", 1.52, 111.7, 180.0),
    ),
    "ARG": (
        ("CG", "CB", "CA", "N", 1.52, 113.8, -65.2),
        ("CD", "CG", "CB", "CA", 1.52, 111.8, 180.0),
        ("NE", "CD", "CG", "CB", 1.46, 111.7, 180.0),
        ("CZ", "NE", "CD", "CG", 1.33, 124.8, 180.0),
        ("NH1", "CZ", "NE", "CD", 1.33, 120.6, 0.0),
        ("NH2", "CZ", "NE", "CD", 1.33, 119.6, 180.0),
    ),
    "HIS": (
        ("CG", "CB", "CA", "N", 1.49, 113.7, -63.2),
        ("ND1", "CG", "CB", "CA", 1.38, 122.8, -75.7),
        ("CD2", "CG", "CB", "CA", 1.36, 130.8, 104.3),
        ("CE1", "ND1", "CG", "CB", 1.32, 108.5, 180.0),
        ("NE2", "CD2", "CG", "CB", 1.36, 108.5, 180.0),
    ),
    "PHE": _ring(),
    "TYR": _ring(("OH", "CZ", "CE1", "CD1", 1.37, 120.0, 180.0)),
    "TRP": (
        ("CG", "CB", "CA", "N", 1.50, 114.1, -66.4),
        ("CD1", "CG", "CB", "CA", 1.37, 127.1, 96.3),
        ("CD2", "CG", "CB", "CA", 1.43, 126.7, -83.7),
        ("NE1", "CD1", "CG", "CB", 1.38, 108.5, 180.0),
        ("CE2", "CD2", "CG", "CB", 1.40, 108.5, 180.0),
        ("CE3", "CD2", "CG", "CB", 1.40, 133.8, 0.0),
        ("CZ2", "CE2", "CD2", "CG", 1.40, 120.0, 180.0),
        ("CZ3", "CE3", "CD2", "CG", 1.40, 120.0, 180.0),
        ("CH2", "CZ2", "CE2", "CD2", 1.40, 117.5, 0.0),
    ),
    "PRO": (("CG", "CB", "CA", "N", 1.49, 104.2, 29.6), ("CD", "CG", "CB", "CA", 1.50, 105.0, -34.8)),
}


def heavy_chain(names: list[str]) -> tuple["app.Topology", Floats]:
    """Build the heavy atoms of a chain with L-residues and trans peptide bonds.

    Parameters
    ----------
    names
        Residue names, caps and protonation variants included. A chain that does not end in a cap gets OXT.

    Returns
    -------
    OpenMM topology with standard bonds and residue names, and (n_heavy, 3) nm.
    """
    from openmm import app

    nonstandard.define()
    topology = app.Topology()
    chain = topology.addChain("A")
    positions: list[Floats] = []
    before: dict[str, Floats] = {}
    psi = _PSI
    for k, name in enumerate(names):
        base = parent(name)
        phi = _PHI_PRO if base == "PRO" else _PHI
        atoms = _residue_atoms(base, before, phi, psi)
        if k == len(names) - 1 and "CA" in atoms:
            atoms["OXT"] = _at(atoms, "C", "CA", "N", 1.25, 117.0, psi)
        residue = topology.addResidue(base, chain, str(k + 1))
        for atom, position in atoms.items():
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
            positions.append(position)
        before = atoms
    topology.createStandardBonds()
    return topology, 0.1 * np.array(positions)


def _residue_atoms(base: str, before: dict[str, Floats], phi: float, psi: float) -> dict[str, Floats]:
    if base == "ACE":
        carbon, methyl = np.zeros(3), np.array([-1.52, 0.0, 0.0])
        oxygen = place(carbon, methyl, np.array([-2.0, 1.0, 0.0]), 1.23, np.radians(120.5), 0.0)
        return {"C": carbon, "CH3": methyl, "O": oxygen}
    atoms: dict[str, Floats] = {}
    if before:
        inner = "CA" if "CA" in before else "CH3"
        if inner == "CA":
            atoms["N"] = _at(before, "C", "CA", "N", 1.335, 116.6, psi)
        else:
            atoms["N"] = _at(before, "C", "CH3", "O", 1.335, 116.6, 180.0)
        if base == "NH2":
            return atoms
        last = "C" if base == "NME" else "CA"
        frame = {**before, "N": atoms["N"]}
        atoms[last] = _at(frame, "N", "C", inner, 1.455, 121.7, _OMEGA)
        if base == "NME":
            return atoms
        atoms["C"] = place(atoms["CA"], atoms["N"], before["C"], 1.525, np.radians(111.0), np.radians(phi))
    else:
        atoms["N"], atoms["CA"] = np.zeros(3), np.array([1.455, 0.0, 0.0])
        atoms["C"] = np.array([1.455 - 1.525 * np.cos(np.radians(111.0)), 1.525 * np.sin(np.radians(111.0)), 0.0])
    atoms["O"] = _at(atoms, "C", "CA", "N", 1.23, 120.5, psi + 180.0)
    for row in (_CB, *_SIDE[base]) if base != "GLY" else ():
        atoms[row[0]] = _at(atoms, *row[1:])
    return atoms


def _at(atoms: dict[str, Floats], a: str, b: str, c: str, bond: float, angle: float, torsion: float) -> Floats:
    return place(atoms[a], atoms[b], atoms[c], bond, float(np.radians(angle)), float(np.radians(torsion)))
