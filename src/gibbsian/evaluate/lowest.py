"""The conformations of lowest energy, each another one, beside a start structure.

Choosing by energy is not sampling: no population is read from such a table.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.chem.residues import chi_atoms
from gibbsian.chem.topology import Topology
from gibbsian.coords.align import superpose
from gibbsian.ensemble.atoms import select, shape_atoms
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import InputError
from gibbsian.evaluate.clashes import clashes, far_pairs
from gibbsian.evaluate.rmsd import rmsd_matrix, rmsd_pairs
from gibbsian.units import kt

Floats = NDArray[np.float64]

DUPLICATE = 0.05
"""nm of alpha-carbon RMSD within which two conformations count as one."""
AGREEMENT = np.radians(40.0)


@dataclass(frozen=True, eq=False)
class Lowest:
    """Conformations of lowest energy, ascending.

    Attributes
    ----------
    index
        (k,) samples.
    energies
        (k,) kJ/mol.
    positions
        (k, n_atoms, 3) nm, superposed on the backbone of the start structure.
    rmsd_ca, rmsd_heavy
        (k,) nm to the start structure, each after its own superposition.
    chi1
        (k,) share of the side chains whose chi1 is within 40 degrees of the start structure's; NaN without any.
    clashes
        (k,) pairs of heavy atoms more than three bonds apart, closer than 0.22 nm.
    """

    index: NDArray[np.int64]
    energies: Floats
    positions: NDArray[np.float32]
    rmsd_ca: Floats
    rmsd_heavy: Floats
    chi1: Floats
    clashes: NDArray[np.int64]

    def rows(self) -> list[dict[str, float]]:
        """Return the table, one row for each conformation."""
        columns = {
            "sample": self.index,
            "energy": self.energies,
            "rmsd_ca": self.rmsd_ca,
            "rmsd_heavy": self.rmsd_heavy,
            "chi1_agreement": self.chi1,
            "clashes": self.clashes,
        }
        return [{name: column[k].item() for name, column in columns.items()} for k in range(len(self.index))]


def lowest_energies(
    ensemble: Ensemble, start: NDArray[np.floating], *, n: int = 10, duplicate: float = DUPLICATE
) -> Lowest:
    """Choose the `n` lowest energies, leaving out what is within `duplicate` nm of one already chosen.

    Parameters
    ----------
    ensemble
        With energies; those that are not finite are not looked at. Fewer than `n` come back where no more are distinct.
    start
        (n_atoms, 3) nm.

    Raises
    ------
    InputError
        Without energies, without a finite one, or if the start structure has other atoms.
    """
    topology = ensemble.topology
    if ensemble.u is None or not np.isfinite(ensemble.u).any():
        raise InputError("lowest energies: the ensemble has no finite energies; give one with u")
    if start.shape != (topology.n_atoms, 3):
        raise InputError(f"lowest energies: start structure {start.shape}; give ({topology.n_atoms}, 3) in nm")
    index = _distinct(ensemble, n, duplicate)
    x = torch.tensor(ensemble.positions[index], dtype=torch.float64)
    reference = torch.tensor(start, dtype=torch.float64)
    ca, heavy = select(topology, "ca"), select(topology, "heavy")
    weights = torch.zeros(topology.n_atoms, dtype=torch.float64)
    weights[select(topology, "backbone")] = 1.0
    moved = superpose(x, reference, weights)[0].numpy()
    return Lowest(
        index=index,
        energies=kt(ensemble.temperature) * ensemble.u[index],
        positions=moved.astype(np.float32),
        rmsd_ca=rmsd_pairs(x[:, ca], reference[ca]).numpy(),
        rmsd_heavy=rmsd_pairs(x[:, heavy], reference[heavy]).numpy(),
        chi1=_chi1_agreement(topology, moved, start),
        clashes=clashes(torch.from_numpy(moved), torch.from_numpy(far_pairs(topology))).numpy(),
    )


def _distinct(ensemble: Ensemble, n: int, duplicate: float) -> NDArray[np.int64]:
    """Return the samples of lowest energy, each further than `duplicate` from those before."""
    assert ensemble.u is not None
    order = np.argsort(ensemble.u)
    order = order[np.isfinite(ensemble.u[order])]
    x = torch.tensor(ensemble.positions[np.ix_(order, shape_atoms(ensemble.topology))], dtype=torch.float64)
    alive: NDArray[np.bool_] = torch.isfinite(x).flatten(1).all(1).numpy()
    chosen: list[int] = []
    while len(chosen) < n and alive.any():
        first = int(alive.argmax())
        chosen.append(first)
        alive[first] = False
        left = np.flatnonzero(alive)
        alive[left] = rmsd_matrix(x[left], x[first : first + 1])[:, 0].numpy() > duplicate
    return order[chosen]


def _chi1_agreement(topology: Topology, positions: Floats, start: NDArray[np.floating]) -> Floats:
    atoms = [chi[0] for r in range(topology.n_residues) if (chi := chi_atoms(topology, r))]
    if not atoms:
        return np.full(len(positions), np.nan)
    rows = np.array(atoms, dtype=np.int64)
    turn = np.abs(dihedral(positions, rows) - dihedral(start[None], rows))
    return (np.minimum(turn, 2 * np.pi - turn) <= AGREEMENT).mean(axis=1)
