"""Energies of conformations that a user brings."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.chem.library import resolve
from gibbsian.ensemble.readers import read_ensemble
from gibbsian.potentials import potential

BATCH = 1000


def energies(structure: Path, frames: Path | None, engine: str, choices: dict[str, Any]) -> NDArray[np.float64]:
    """Potential energies in kJ/mol of a structure, or of all frames of a trajectory of it.

    Raises
    ------
    InputError
        If the structure is not a molecule that the package treats, or the frames are of another one.
    """
    system = resolve(str(structure), **choices)
    x = system.positions[None]
    if frames is not None:
        x = read_ensemble(frames, topology=system.topology, temperature=system.temperature).positions
    evaluate = potential(system, engine=engine)
    parts = [
        evaluate.energy_and_force(torch.from_numpy(x[start : start + BATCH]).double())[0]
        for start in range(0, len(x), BATCH)
    ]
    return torch.cat(parts).numpy()
