"""Topologies of peptides from the residue templates of a force field, and conformations with random torsions."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.nonstandard import template_files
from gibbsian.chem.topology import Topology
from gibbsian.coords.internal import Internal, InternalCoordinates


@cache
def _templates():
    from openmm import app

    return app.ForceField("amber14/protein.ff14SB.xml", *template_files("amber14"))._templates


def peptide(sequence: str) -> Topology:
    """A topology such as ACE-ALA-NME or NALA-ALA-CALA, atoms in the order of the templates."""
    names, elements, residue_index, bonds, joint = [], [], [], [], None
    residues = sequence.split("-")
    for r, residue in enumerate(residues):
        template, offset = _templates()[residue], len(names)
        local = ["C" if residue == "NME" and atom.name == "CH3" else atom.name for atom in template.atoms]
        names += local
        elements += [atom.element.symbol for atom in template.atoms]
        residue_index += [r] * len(local)
        bonds += [tuple(sorted((a + offset, b + offset))) for a, b in template.bonds]
        if joint is not None:
            bonds.append((joint, offset + local.index("N")))
        joint = offset + local.index("C")
    short = [name[1:] if len(name) == 4 else name for name in residues]
    return Topology(
        atom_names=tuple(names),
        elements=tuple(elements),
        residue_index=np.array(residue_index),
        residue_names=tuple(short),
        residue_ids=tuple(str(r + 1) for r in range(len(residues))),
        bonds=np.array(sorted(bonds)),
    )


def random_internal(coordinates: InternalCoordinates, n: int, seed: int = 0, noise: float = 0.05) -> Internal:
    """Plausible bonds and angles, random proper torsions, deltas in two thirds and four thirds of pi."""
    g = torch.Generator().manual_seed(seed)
    z = coordinates.zmatrix
    n_atoms = coordinates.n_atoms
    torsions = torch.empty(n, n_atoms - 3, dtype=torch.float64)
    siblings: dict[int, int] = {}
    for k, (kind, row) in enumerate(zip(z.kinds, z.references[3:].tolist(), strict=True)):
        if kind == "delta":
            siblings[row[0]] = siblings.get(row[0], 0) + 1
            centre, width = (2.1 if siblings[row[0]] == 1 else -2.1), noise
        else:
            centre, width = (0.0, 3.1) if kind == "proper" else (np.pi, noise)
        torsions[:, k] = centre + width * (2.0 * torch.rand(n, generator=g, dtype=torch.float64) - 1.0)
    bonds = 0.13 + noise * 0.2 * torch.rand(n, n_atoms - 1, generator=g, dtype=torch.float64)
    angles = 1.9 + noise * torch.randn(n, n_atoms - 2, generator=g, dtype=torch.float64)
    return Internal(bonds, angles, torsions)


def random_conformations(topology: Topology, n: int, seed: int = 0) -> Tensor:
    """(n, n_atoms, 3) nm, float64, with random torsions."""
    coordinates = InternalCoordinates(topology)
    return coordinates.inverse(random_internal(coordinates, n, seed))[0]
