"""Start structures of umbrella windows: diverse ones, pulled along the torsions by a moving bias."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.dynamics.langevin import run_langevin, start
from gibbsian.dynamics.starts import FORCE_CAP, diverse_starts, structure_signs
from gibbsian.dynamics.windows import Windows, wrapped
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import GibbsianError
from gibbsian.potentials.base import Integrator, Potential

_STAGES = 20
_FRICTION = 10.0  # 1/ps, takes up the work of the bias


def pulled_starts(
    positions: Tensor,
    topology: Topology,
    windows: Windows,
    centres: Tensor,
    potential: Potential,
    integrator: Integrator,
    generator: torch.Generator,
    kt: Tensor,
    n_steps: int,
    hot_temperature: float,
    hot_steps: int,
) -> Tensor:
    """Return one structure (B, N, 3) nm near each of `centres` (B, d) rad.

    A walker starts from one of the diverse structures that are closest to its centre, and is pulled the rest of the
    way. One whose handedness or peptide bonds did not survive takes the structure of another walker of its window.

    Parameters
    ----------
    positions
        (N, 3) nm, one sound structure.
    centres
        Of the walkers, copy-major: the K windows come again for every copy.
    integrator
        Without a bias.
    kt
        (B,) kJ/mol.
    n_steps
        Steps of the pull.
    hot_temperature, hot_steps
        See `diverse_starts`.

    Raises
    ------
    GibbsianError
        If no walker of a window survives.
    """
    pool = diverse_starts(
        positions, len(centres), topology, potential, integrator, generator, hot_temperature, hot_steps
    )
    x, angles = _closest(pool, windows, centres, generator)
    way = torch.from_numpy(wrapped(centres.numpy() - angles))
    state = start(x, potential, integrator.masses, kt, generator)
    for stage in range(1, _STAGES + 1):
        at = centres - (1 - stage / _STAGES) * way
        pulling = replace(integrator, friction=_FRICTION, bias=windows.bias(at))
        state = run_langevin(state, potential, pulling, kt, -(-n_steps // _STAGES), generator, force_cap=FORCE_CAP)
    good = torch.isfinite(state.energy)
    good &= (structure_signs(state.x, topology) == structure_signs(positions[None], topology)).all(1)
    n_windows = len(windows.centres)
    table = good.reshape(-1, n_windows)
    if not table.any(0).all():
        centre = np.degrees(windows.centres[int(table.any(0).long().argmin())]).round().tolist()
        raise GibbsianError(
            f"umbrella: no structure could be pulled to {centre} degrees; use more copies or pull_steps"
        )
    donor = torch.multinomial(table.T.double(), len(table), replacement=True, generator=generator).T
    donor = donor * n_windows + torch.arange(n_windows)
    return torch.where(good[:, None, None], state.x, state.x[donor.flatten()])


def _closest(pool: Tensor, windows: Windows, centres: Tensor, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
    """For each centre one of the closest structures of the pool, a different one for each copy, and its torsions."""
    found = dihedral(pool.numpy(), windows.atoms)
    away = sum(wrapped(found[:, i] - windows.centres[:, i, None]) ** 2 for i in range(found.shape[1]))
    n_copies = len(centres) // len(windows.centres)
    closest = np.argsort(away, axis=1, kind="stable")[:, : 2 * n_copies]  # (K, 2 copies)
    order = torch.rand(closest.shape, generator=generator).argsort(1).numpy()[:, :n_copies]
    pick = np.take_along_axis(closest, order, 1).T.ravel()
    return pool[torch.from_numpy(pick)], found[pick]
