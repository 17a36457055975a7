"""Diverse start structures: short hot dynamics from one structure, then minimisation.

Handedness and peptide bonds must stay as they were built: a flipped centre never flips back in a simulation,
and belongs to another molecule.
"""

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.dynamics.langevin import run_langevin, start
from gibbsian.dynamics.minimise import minimise
from gibbsian.ensemble.secondary import kept_structure
from gibbsian.errors import GibbsianError
from gibbsian.potentials.base import Integrator, Potential
from gibbsian.units import kt

FORCE_CAP = 2e4
"""kJ/mol/nm, above what a bond feels at 1000 K."""
_ATTEMPTS = 3


def diverse_starts(
    positions: Tensor,
    n: int,
    topology: Topology,
    potential: Potential,
    integrator: Integrator,
    generator: torch.Generator,
    temperature: float = 1000.0,
    n_steps: int = 5000,
    structure: float = 0.0,
) -> Tensor:
    """Return `n` relaxed structures (n, N, 3) nm, spread over what is within reach of `positions` (N, 3).

    Parameters
    ----------
    temperature, n_steps
        The hot run: K and steps. At 1000 K about one walker in fifty turns a peptide bond in 10 ps; it is replaced.
    structure
        Share of the helices and strands of `positions` that a structure must keep, else it is replaced.

    Raises
    ------
    GibbsianError
        If after several attempts no structure keeps its handedness, peptide bonds and folds.
    """
    first, _ = minimise(positions[None], potential)
    wanted, folded = structure_signs(first, topology), first[0].cpu().numpy()
    x = first.repeat(n, 1, 1)
    thermal = torch.full((n,), kt(temperature), dtype=torch.float64, device=x.device)
    for _ in range(_ATTEMPTS):
        state = start(x, potential, integrator.masses, thermal, generator)
        state = run_langevin(state, potential, integrator, thermal, n_steps, generator, force_cap=FORCE_CAP)
        x, energy = minimise(state.x, potential, n_steps=100)
        good = (structure_signs(x, topology) == wanted).all(1) & torch.isfinite(energy)
        if structure > 0:
            good &= torch.from_numpy(kept_structure(topology, x.cpu().numpy(), folded) >= structure).to(good.device)
        if good.any():
            break
        x = first.repeat(n, 1, 1)
    else:
        raise GibbsianError(
            f"start structures: dynamics at {temperature} K broke or unfolded all {n}; start colder, or check the input"
        )
    donors = torch.nonzero(good)[:, 0]
    pick = donors[torch.randint(len(donors), (n,), generator=generator, device=x.device)]
    return torch.where(good[:, None, None], x, x[pick])


def structure_signs(x: Tensor, topology: Topology) -> Tensor:
    """Return +-1 for the handedness of each four-coordinated centre, then for each peptide bond (cis +).

    Parameters
    ----------
    x
        (B, N, 3) nm.

    Returns
    -------
    (B, n_centres + n_peptide_bonds).
    """
    centres = [(i, *atoms[:3]) for i, atoms in enumerate(topology.neighbours) if len(atoms) == 4]
    c, i, j, k = torch.tensor(centres, dtype=torch.long, device=x.device).reshape(-1, 4).T
    volume = (torch.linalg.cross(x[:, i] - x[:, c], x[:, j] - x[:, c]) * (x[:, k] - x[:, c])).sum(-1)
    a, b, d, e = torch.tensor(_peptide_bonds(topology), dtype=torch.long, device=x.device).reshape(-1, 4).T
    axis = x[:, d] - x[:, b]
    first = torch.linalg.cross(x[:, a] - x[:, b], axis)
    second = torch.linalg.cross(x[:, e] - x[:, d], axis)
    return torch.cat([volume, (first * second).sum(-1)], 1).sign()


def _peptide_bonds(topology: Topology) -> list[tuple[int, int, int, int]]:
    """Atoms CA, C, N, CA of each peptide bond; caps count through their own carbons."""
    bonds = []
    for residue in range(topology.n_residues - 1):
        c, n = topology.find(residue, "C"), topology.find(residue + 1, "N")
        if c is None or n is None:
            continue
        before = _first(topology, residue, ("CA", "CH3"))
        after = _first(topology, residue + 1, ("CA", "CH3", "C"))
        if before is not None and after is not None:
            bonds.append((before, c, n, after))
    return bonds


def _first(topology: Topology, residue: int, names: tuple[str, ...]) -> int | None:
    return next((atom for name in names if (atom := topology.find(residue, name)) is not None), None)
