"""Residue knowledge: names, torsions, chiral centres, interchangeable atoms. The one place for it."""

from dataclasses import dataclass

from gibbsian.chem.topology import Topology

ONE_LETTER = {
    "A": "ALA", "R": "ARG", "N": "ASN", "D": "ASP", "C": "CYS", "Q": "GLN", "E": "GLU", "G": "GLY", "H": "HIE",
    "I": "ILE", "L": "LEU", "K": "LYS", "M": "MET", "F": "PHE", "P": "PRO", "S": "SER", "T": "THR", "W": "TRP",
    "Y": "TYR", "V": "VAL",
}  # fmt: skip
"""One-letter codes. Histidine is neutral with its hydrogen on NE2, the commoner tautomer at pH 7."""

VARIANTS = {
    "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "CYX": "CYS", "CYM": "CYS",
}  # fmt: skip
"""Protonation variants and the residue that each is a form of."""

ALIASES = {
    "HIS": "HIE", "HSD": "HID", "HSE": "HIE", "HSP": "HIP", "ASPP": "ASH", "GLUP": "GLH", "LSN": "LYN",
    "NMA": "NME", "NHE": "NH2",
}  # fmt: skip
"""Other programs' names. `HIS` in a sequence means HIE."""

N_CAPS = frozenset({"ACE"})
C_CAPS = frozenset({"NME", "NH2"})
CAPS = N_CAPS | C_CAPS
NONSTANDARD = frozenset({"NLE"})
"""Norleucine; `gibbsian.chem.nonstandard` knows which force fields have it."""

STANDARD = frozenset(VARIANTS.get(name, name) for name in ONE_LETTER.values())
SUPPORTED = STANDARD | NONSTANDARD | frozenset(VARIANTS) | CAPS

CHI: dict[str, tuple[str, ...]] = {
    "ARG": ("CB", "CG", "CD", "NE", "CZ", "NH1"),
    "ASN": ("CB", "CG", "OD1"),
    "ASP": ("CB", "CG", "OD1"),
    "CYS": ("CB", "SG"),
    "GLN": ("CB", "CG", "CD", "OE1"),
    "GLU": ("CB", "CG", "CD", "OE1"),
    "HIS": ("CB", "CG", "ND1"),
    "ILE": ("CB", "CG1", "CD1"),
    "LEU": ("CB", "CG", "CD1"),
    "LYS": ("CB", "CG", "CD", "CE", "NZ"),
    "MET": ("CB", "CG", "SD", "CE"),
    "NLE": ("CB", "CG", "CD", "CE"),
    "PHE": ("CB", "CG", "CD1"),
    "PRO": ("CB", "CG", "CD"),
    "SER": ("CB", "OG"),
    "THR": ("CB", "OG1"),
    "TRP": ("CB", "CG", "CD1"),
    "TYR": ("CB", "CG", "CD1"),
    "VAL": ("CB", "CG1"),
}
"""Side-chain path behind N and CA: chi_k is the torsion of atoms k-1 .. k+2 of (N, CA, *path)."""

CHIRAL: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "ILE": (("CB", "CA", "CG1", "CG2"),),
    "THR": (("CB", "CA", "OG1", "CG2"),),
}
"""Side-chain stereocentres; with (centre, a, b, c) the product (a x b) . c of bond vectors is positive."""

_SWAPS: dict[str, tuple[tuple[str, str], ...]] = {
    "ASP": (("OD1", "OD2"),),
    "GLU": (("OE1", "OE2"),),
    "ARG": (("NH1", "NH2"), ("HH11", "HH21"), ("HH12", "HH22")),
    "PHE": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
    "TYR": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
}  # keyed by the exact name, so a protonated ASH or GLH has none


@dataclass(frozen=True)
class Symmetry:
    """Atoms that the energy cannot tell apart.

    Attributes
    ----------
    name
        ``methyl``, ``ammonium``, ``carboxylate``, ``guanidinium`` or ``ring``.
    atoms
        Indices of the atoms that move.
    permutations
        The whole cyclic group, identity first: ``y[:, atoms] = x[:, permutations[k]]`` is an equivalent conformation.
    """

    name: str
    atoms: tuple[int, ...]
    permutations: tuple[tuple[int, ...], ...]

    @property
    def order(self) -> int:
        """Number of equivalent labellings."""
        return len(self.permutations)


def parent(name: str) -> str:
    """Residue that a protonation variant is a form of; any other name unchanged."""
    return VARIANTS.get(name, name)


def symmetry_groups(topology: Topology) -> list[Symmetry]:
    """Return groups of interchangeable atoms, in residue order.

    Methyls and ammonium groups give their even (cyclic) relabellings only, because handedness is fixed; carboxylates
    (side chains and a charged C terminus), the guanidinium of Arg and the rings of Phe and Tyr give a two-fold swap
    that takes the attached hydrogens along.

    Rotations of methyls and ammonium groups leave every energy unchanged to rounding. A two-fold swap does so up to
    the improper torsions of Amber fields, whose atom order depends on the indices: about 0.1 kJ/mol at 300 K.
    """
    groups = []
    for residue, name in enumerate(topology.residue_names):
        for atom in topology.atoms_of(residue):
            hydrogens = hydrogens_of(topology, atom)
            if len(hydrogens) == 3:
                a, b, c = hydrogens
                kind = "ammonium" if topology.elements[atom] == "N" else "methyl"
                groups.append(Symmetry(kind, (a, b, c), ((a, b, c), (b, c, a), (c, a, b))))
        groups.extend(_swaps(topology, residue, name))
    return groups


def _swaps(topology: Topology, residue: int, name: str) -> list[Symmetry]:
    kinds = {"ASP": "carboxylate", "GLU": "carboxylate", "ARG": "guanidinium", "PHE": "ring", "TYR": "ring"}
    candidates = [(kinds[name], _SWAPS[name])] if name in _SWAPS else []
    candidates.append(("carboxylate", (("O", "OXT"),)))
    groups = []
    for kind, pairs in candidates:
        found = [(topology.find(residue, a), topology.find(residue, b)) for a, b in pairs]
        indices = [(a, b) for a, b in found if a is not None and b is not None]
        if len(indices) == len(pairs):
            first, second = zip(*indices, strict=True)
            atoms = (*first, *second)
            groups.append(Symmetry(kind, atoms, (atoms, (*second, *first))))
    return groups


def hydrogens_of(topology: Topology, atom: int) -> list[int]:
    """Hydrogens bonded to an atom, ascending."""
    return [n for n in topology.neighbours[atom] if topology.elements[n] == "H"]


def chi_atoms(topology: Topology, residue: int) -> list[tuple[int, int, int, int]]:
    """Atoms of chi1, chi2, ... of a residue; empty for Gly, Ala and caps."""
    path = CHI.get(parent(topology.residue_names[residue]))
    if path is None:
        return []
    indices = [topology.find(residue, name) for name in ("N", "CA", *path)]
    found = [i for i in indices if i is not None]
    if len(found) < len(indices):
        return []
    return [(found[k], found[k + 1], found[k + 2], found[k + 3]) for k in range(len(found) - 3)]


def phi_atoms(topology: Topology, residue: int) -> tuple[int, int, int, int] | None:
    """C(i-1), N, CA, C of a residue, or None where there is none (first residue, caps)."""
    return _backbone(topology, ((residue - 1, "C"), (residue, "N"), (residue, "CA"), (residue, "C")))


def psi_atoms(topology: Topology, residue: int) -> tuple[int, int, int, int] | None:
    """N, CA, C, N(i+1) of a residue, or None where there is none (last residue, caps)."""
    return _backbone(topology, ((residue, "N"), (residue, "CA"), (residue, "C"), (residue + 1, "N")))


def omega_atoms(topology: Topology, residue: int) -> tuple[int, int, int, int] | None:
    """Atoms of the torsion about the peptide bond C(i-1)-N(i): CA, C, N, CA (CH3 of ACE and C of NME stand in)."""
    before = "CH3" if residue and topology.residue_names[residue - 1] == "ACE" else "CA"
    after = "C" if topology.residue_names[residue] == "NME" else "CA"
    return _backbone(topology, ((residue - 1, before), (residue - 1, "C"), (residue, "N"), (residue, after)))


def _backbone(topology: Topology, names: tuple[tuple[int, str], ...]) -> tuple[int, int, int, int] | None:
    if any(not 0 <= residue < topology.n_residues for residue, _ in names):
        return None
    a, b, c, d = (topology.find(residue, name) for residue, name in names)
    if a is None or b is None or c is None or d is None:
        return None
    return a, b, c, d


def chiral_centres(topology: Topology) -> list[tuple[int, int, int, int]]:
    """Stereocentres as (centre, a, b, c) with (a x b) . c of the bond vectors positive in an L-peptide."""
    centres = []
    for residue, name in enumerate(topology.residue_names):
        for names in (("CA", "N", "C", "CB"), *CHIRAL.get(name, ())):
            found = [i for i in (topology.find(residue, n) for n in names) if i is not None]
            if len(found) == 4:
                centres.append((found[0], found[1], found[2], found[3]))
    return centres
