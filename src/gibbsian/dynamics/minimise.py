"""Batched energy minimisation (FIRE), for start structures."""

import torch
from torch import Tensor

from gibbsian.dynamics.langevin import capped
from gibbsian.potentials.base import Potential

_GROW, _SHRINK, _MIXING, _MIXING_DECAY, _PATIENCE = 1.1, 0.5, 0.1, 0.99, 5


def minimise(
    x: Tensor, potential: Potential, n_steps: int = 200, timestep: float = 0.002, max_step: float = 0.005
) -> tuple[Tensor, Tensor]:
    """Lower the energy of every conformation by FIRE (Phys. Rev. Lett. 97, 170201 (2006)).

    Each conformation has its own step length; no atom moves more than `max_step` nm in one iteration, so
    overlapping atoms relax instead of exploding.

    Parameters
    ----------
    x
        (B, N, 3) nm.
    n_steps
        Force evaluations.
    timestep
        First step length, ps for atoms of 12 dalton; it grows at most tenfold.

    Returns
    -------
    The best positions met and their energies (B,) kJ/mol: never above where they began.
    """
    x = x.clone()
    v = torch.zeros_like(x)
    dt = torch.full((len(x), 1, 1), timestep, dtype=x.dtype, device=x.device)
    mixing = torch.full_like(dt, _MIXING)
    downhill = torch.zeros_like(dt)
    best_x, best_energy = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for _ in range(n_steps):
        energy, force = potential.energy_and_force(x)
        better = energy.double() < best_energy
        best_x = torch.where(better[:, None, None], x, best_x)
        best_energy = torch.where(better, energy.double(), best_energy)
        force = torch.nan_to_num(force, nan=0.0, posinf=1e9, neginf=-1e9)
        power = (force * v).sum((1, 2), keepdim=True)
        good = power >= 0
        downhill = torch.where(good, downhill + 1, 0.0)
        patient = downhill > _PATIENCE
        dt = torch.where(good, torch.where(patient, dt * _GROW, dt), dt * _SHRINK).clamp_max(10 * timestep)
        mixing = torch.where(good, torch.where(patient, mixing * _MIXING_DECAY, mixing), _MIXING)
        direction = force / _length(force).clamp_min(1e-12)
        v = torch.where(good, (1 - mixing) * v + mixing * _length(v) * direction, 0.0) + dt * force / 12.0
        x = x + capped(dt * v, max_step)
    return best_x, best_energy


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors.flatten(1), dim=1)[:, None, None]
