"""Secondary structure of proteins, by DSSP (Kabsch and Sander, Biopolymers 22, 2577 (1983)) as mdtraj computes it."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.export import to_mdtraj

ORDERED = ("H", "E")


def secondary_structure(topology: Topology, positions: NDArray[np.floating]) -> NDArray[np.str_]:
    """Return helix ``H``, strand ``E``, coil ``C`` or, for caps and unknown residues, ``NA`` (n, n_residues).

    Parameters
    ----------
    positions
        (n, n_atoms, 3) nm.
    """
    import mdtraj

    return mdtraj.compute_dssp(mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), to_mdtraj(topology)))


def kept_structure(
    topology: Topology, positions: NDArray[np.floating], reference: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the share (n,) of residues in helices or strands of `reference` (n_atoms, 3) that are so still.

    It is 1 where the reference has neither.
    """
    wanted = secondary_structure(topology, reference[None])[0]
    ordered = np.isin(wanted, ORDERED)
    if not ordered.any():
        return np.ones(len(positions))
    return (secondary_structure(topology, positions)[:, ordered] == wanted[ordered]).mean(axis=1)
