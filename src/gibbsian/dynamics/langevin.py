"""Batched Langevin dynamics with the middle scheme.

One step, with one force evaluation, for every replica at once (J. Chem. Phys. 147, 034109 (2017); the scheme
of OpenMM's LangevinMiddleIntegrator)::

    v += dt f(x) / m
    x += dt v / 2
    v = a v + sqrt((1 - a^2) kT / m) R,   a = exp(-friction dt)
    x += dt v / 2

The kept velocity belongs to half a step earlier than the position; configurational averages are exact to
fourth order in dt for a harmonic well.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.parameters import Terms
from gibbsian.errors import InputError
from gibbsian.potentials.base import Integrator, LangevinState, Potential, RigidBonds, StepsEngine

ABSURD = 20.0
"""A walker this many mean thermal energies away from the median has blown up."""


def start(x: Tensor, potential: Potential, masses: Tensor, kt: Tensor, generator: torch.Generator) -> LangevinState:
    """State at positions `x` (B, N, 3) with Maxwell-Boltzmann velocities at `kt` (B,) kJ/mol."""
    energy, force = potential.energy_and_force(x)
    return LangevinState(x=x.clone(), v=velocities(x, masses, kt, generator), energy=energy, force=force)


def velocities(x: Tensor, masses: Tensor, kt: Tensor, generator: torch.Generator) -> Tensor:
    """Maxwell-Boltzmann velocities shaped like `x` (B, N, 3), nm/ps, for thermal energies `kt` (B,)."""
    return thermal_speed(masses, kt, x.dtype) * normal_like(x, generator)


def thermal_speed(masses: Tensor, kt: Tensor, dtype: torch.dtype) -> Tensor:
    """Return sqrt(kT/m), the width of each velocity component: (B, N, 1) nm/ps."""
    return (kt.double()[:, None, None] / masses.double()[:, None]).sqrt().to(dtype)


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers shaped like `x`."""
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def run_langevin(
    state: LangevinState,
    potential: Potential,
    integrator: Integrator,
    kt: Tensor,
    n_steps: int,
    generator: torch.Generator,
    force_cap: float = math.inf,
) -> LangevinState:
    """Advance every replica by `n_steps`.

    Parameters
    ----------
    state
        Its tensors are not changed.
    potential
        If it is a `StepsEngine` the steps run inside it; only such a one knows rigid bonds and biases.
    kt
        (B,) thermal energy of each replica, kJ/mol.
    force_cap
        Largest length of the force on an atom, kJ/mol/nm; finite only to relax bad structures, because capped
        dynamics samples another distribution.

    Raises
    ------
    InputError
        If bonds are rigid, or torsions biased, and the engine cannot do that.
    """
    if isinstance(potential, StepsEngine):
        return potential.run_steps(state, integrator, kt, n_steps, generator, force_cap)
    if integrator.rigid is not None or integrator.bias is not None:
        raise InputError("integrator: only the compiled engine knows rigid bonds and biased torsions; use it")
    timestep, decay = integrator.timestep, math.exp(-integrator.friction * integrator.timestep)
    dtype = state.x.dtype
    kick = (timestep / integrator.masses.double())[:, None].to(dtype)
    noise_width = thermal_speed(integrator.masses, kt, dtype) * math.sqrt(1.0 - decay**2)
    x, v, energy, force = state.x.clone(), state.v.clone(), state.energy, state.force
    for _ in range(n_steps):
        if math.isfinite(force_cap):
            force = capped(force, force_cap)
        v.addcmul_(force, kick)
        x.add_(v, alpha=0.5 * timestep)
        v.mul_(decay).addcmul_(normal_like(x, generator), noise_width)
        x.add_(v, alpha=0.5 * timestep)
        energy, force = potential.energy_and_force(x)
    return replace(state, x=x, v=v, energy=energy, force=force)


def put_back(
    motion: LangevinState,
    good_x: Tensor,
    bound: float,
    potential: Potential,
    masses: Tensor,
    kt: Tensor,
    generator: torch.Generator,
) -> tuple[LangevinState, Tensor, int]:
    """Put walkers that blew up back to their last sound positions, with new velocities.

    Parameters
    ----------
    good_x
        (B, N, 3) nm, the last positions at which each walker was sound.
    bound
        kJ/mol; a walker whose energy is farther from the median than this has blown up.

    Returns
    -------
    The motion, new `good_x`, and how many walkers were put back.
    """
    energy = motion.energy.double()
    bad = ~((energy - energy.nanmedian()).abs() < bound)
    good_x = torch.where(bad[:, None, None], good_x, motion.x)
    if not bad.any():
        return motion, good_x, 0
    fresh = start(good_x[bad], potential, masses, kt[bad], generator)
    healed = {}
    for name, value in vars(motion).items():
        healed[name] = value.clone()
        healed[name][bad] = getattr(fresh, name)
    return LangevinState(**healed), good_x, int(bad.sum())


def capped(vectors: Tensor, length: float) -> Tensor:
    """Shorten vectors (..., 3) longer than `length`; non-finite ones become zero."""
    vectors = torch.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
    size = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (length / size.clamp_min(length))


def rigid_hydrogens(elements: Sequence[str], bonds: Terms) -> RigidBonds | None:
    """Bonds to hydrogen, with the lengths of the force field; None if there are none."""
    rigid = [row for row, (i, j) in enumerate(bonds.atoms) if "H" in (elements[i], elements[j])]
    if not rigid:
        return None
    return RigidBonds(torch.from_numpy(bonds.atoms[rigid]), torch.from_numpy(bonds.values[rigid, 0]))


def repartition(
    masses: NDArray[np.float64], elements: Sequence[str], bonds: NDArray[np.int64], hydrogen_mass: float = 4.0
) -> NDArray[np.float64]:
    """Move mass from heavy atoms to their hydrogens so that a 2 fs step is stable.

    The configurational distribution does not depend on masses.

    Parameters
    ----------
    masses
        (N,) dalton.
    elements, bonds
        Chemical symbols, and (n_bonds, 2) atom indices.
    hydrogen_mass
        Mass of every bonded hydrogen afterwards, dalton.

    Raises
    ------
    InputError
        If a heavy atom would keep less than one dalton.
    """
    new = np.asarray(masses, dtype=np.float64).copy()
    for i, j in np.asarray(bonds, dtype=np.int64).reshape(-1, 2):
        if elements[i] == "H":
            i, j = j, i
        if elements[j] == "H" and elements[i] != "H":
            new[i] -= hydrogen_mass - masses[j]
            new[j] = hydrogen_mass
    if new.min(initial=np.inf) < 1.0 <= np.min(masses, initial=np.inf):
        atom = int(new.argmin())
        raise InputError(
            f"hydrogen_mass: {hydrogen_mass} dalton leaves atom {atom} ({elements[atom]}) with "
            f"{new[atom]:.2f}; choose a smaller one (4 suits proteins)"
        )
    return new
