"""CompiledPotential: the C++ engine, one conformation per vector lane."""

import math
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.born import ACE_PROBE, Born
from gibbsian.chem.parameters import Parameters
from gibbsian.errors import InputError
from gibbsian.kernels import instruction_sets, kernels
from gibbsian.potentials.base import Integrator, LangevinState, RigidBonds, TorsionBias
from gibbsian.potentials.coefficients import PairTable, pair_table, shortest, spline_patches, torsion_table
from gibbsian.potentials.saved_force import SavedForce

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]

LONG_SERIES, SHORT_SERIES = 0.3, 0.1
"""Largest (s/r)^2 at which the kernels' two polynomials for the screening of distant atoms hold."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CompiledPotential:
    """Potential energy by the compiled kernels, forces from the same pass.

    Parameters
    ----------
    parameters
        Translated system; `parameters.unknown` must be empty.
    dtype
        Precision of the arithmetic, float32 or float64. Energies are summed and returned in float64, forces come in
        the dtype of `x`.
    threads
        How many to use; by default one for each core this process may use. Results do not depend on it, but their last
        bits depend on the rest of the batch.
    instruction_set
        One of `instruction_sets()`; by default the widest.

    Raises
    ------
    InputError
        If the engine was not built, the system has forces that it does not know, or `x` has another number of atoms.

    Notes
    -----
    A conformation whose energy is not a number has energy inf and force zero; it disturbs no other one. Memory does not
    grow with the batch.
    """

    def __init__(
        self,
        parameters: Parameters,
        dtype: torch.dtype = torch.float64,
        threads: int | None = None,
        instruction_set: str | None = None,
    ):
        if parameters.unknown:
            names = ", ".join(parameters.unknown)
            raise InputError(f"engine compiled: does not know the force {names}; use engine openmm")
        available = instruction_sets()
        if not available:
            raise InputError(
                "engine compiled: not built at installation; install a C++ compiler and gibbsian again, or use torch"
            )
        if (instruction_set or available[0]) not in available:
            raise InputError(f"instruction_set: got {instruction_set!r}, available are {', '.join(available)}")
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"engine compiled: computes in float32 or float64, not in {dtype}")
        self.parameters = parameters
        self.n_atoms = parameters.n_atoms
        self.calls = 0
        self.dtype = dtype
        self.threads = threads or usable_cores()
        self.instruction_set = instruction_set or available[0]
        self._engine = _engine(parameters, dtype, self.instruction_set)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledPotential, (self.parameters, self.dtype, self.threads, self.instruction_set)

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64; its gradient is minus the force."""
        return SavedForce.apply(x, self.energy_and_force)  # pyright: ignore[reportReturnType]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm, without a graph."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.n_atoms, 3):
            raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {self.n_atoms}, 3) in nm")
        self.calls += len(x)
        seen = x.detach().to("cpu", self.dtype).contiguous()
        energy, force = torch.empty(len(x), dtype=torch.float64), torch.empty_like(seen)
        self._engine.evaluate(seen.numpy(), energy.numpy(), force.numpy(), self.threads)
        return energy.to(x.device), force.to(x)

    def run_steps(
        self,
        state: LangevinState,
        integrator: Integrator,
        kt: Tensor,
        n_steps: int,
        generator: torch.Generator,
        force_cap: float = math.inf,
    ) -> LangevinState:
        """Advance every replica by `n_steps` of the middle scheme; see `StepsEngine`.

        Random numbers are counted by seed, replica and step (Philox4x32-10); `generator` gives the seed.
        """
        self.calls += len(state.x) * n_steps
        x, v, force = (a.to("cpu", self.dtype, copy=True).contiguous() for a in (state.x, state.v, state.force))
        energy = state.energy.to("cpu", torch.float64, copy=True)
        self._engine.run(
            x.numpy(),
            v.numpy(),
            energy.numpy(),
            force.numpy(),
            kt.double().contiguous().numpy(),
            integrator.masses.double().contiguous().numpy(),
            integrator.timestep,
            integrator.friction,
            force_cap,
            n_steps,
            int(torch.randint(2**63 - 1, (), generator=generator)),
            *_special(integrator, len(x)),
            self.threads,
        )
        moved = LangevinState(x, v, energy, force)
        return LangevinState(**{name: getattr(moved, name).to(getattr(state, name)) for name in vars(moved)})


def _special(integrator: Integrator, n: int) -> tuple[NDArray[Any], ...]:
    """Rigid bonds (atoms, lengths) and biased torsions (atoms, centres, k) of `n` replicas, perhaps none."""
    rigid = integrator.rigid or RigidBonds(torch.zeros(0, 2), torch.zeros(0))
    bias = integrator.bias or TorsionBias(torch.zeros(0, 4), torch.zeros(n, 0), torch.zeros(n, 0))
    return (
        rigid.atoms.to(torch.int32).contiguous().numpy(),
        rigid.lengths.double().contiguous().numpy(),
        bias.atoms.to(torch.int32).contiguous().numpy(),
        bias.centres.double().expand(n, -1).contiguous().numpy(),
        bias.k.double().expand(n, -1).contiguous().numpy(),
    )


def _engine(parameters: Parameters, dtype: torch.dtype, instruction_set: str) -> Any:
    """Compiled engine of a molecule."""
    name, real = ("Engine32", np.float32) if dtype == torch.float32 else ("Engine64", np.float64)
    make = getattr(kernels(), name)
    reals, indices, numbers = _bonded(parameters)
    numbers["shortest2"] = shortest(dtype) ** 2
    if parameters.n_atoms > 1 and (parameters.nonbonded is not None or parameters.born is not None):
        pairs, more = _pairs(parameters)
        reals |= pairs
        numbers |= more
    return make(
        parameters.n_atoms,
        {name: np.ascontiguousarray(values, dtype=real).ravel() for name, values in reals.items()},
        {name: np.ascontiguousarray(values, dtype=np.int32).ravel() for name, values in indices.items()},
        numbers,
        instruction_set,
    )


def _bonded(parameters: Parameters) -> tuple[Arrays, dict[str, NDArray[np.int64]], dict[str, float]]:
    """Coefficients, atoms and sizes of the bonded terms, by the names of the C++ tables."""
    table = torsion_table(parameters)
    reals = {name: getattr(parameters, name).values for name in ("bonds", "angles", "impropers")}
    indices = {name: getattr(parameters, name).atoms for name in ("bonds", "angles", "impropers")}
    reals["torsions"], indices["torsions"] = np.concatenate([table.even, table.odd]).T, table.atoms
    numbers = {"even": float(len(table.even)), "odd": float(len(table.odd))}
    if parameters.cmap is not None:
        sizes = np.array([len(grid) for grid in parameters.cmap.maps])
        first = np.concatenate([[0], np.cumsum(sizes**2)[:-1]])
        reals["maps"] = np.concatenate([patch.ravel() for patch in spline_patches(parameters.cmap)])
        indices["maps"] = parameters.cmap.atoms
        indices["maps_first"], indices["maps_size"] = first[parameters.cmap.index], sizes[parameters.cmap.index]
    return reals, indices, numbers


def _pairs(parameters: Parameters) -> tuple[Arrays, dict[str, float]]:
    """Coefficients of pairs and of the solvent."""
    i, j = np.triu_indices(parameters.n_atoms, 1)
    table = pair_table(parameters.nonbonded, i, j)
    reals: Arrays = {}
    if np.isfinite(table.cutoff).any():
        reals["cuts"] = np.stack([np.minimum(table.cutoff**2, 1e30), table.field, table.shift], 1)
    born = parameters.born
    if born is None:
        zero = np.zeros(len(i))
        reals["pairs"] = np.stack([table.charge, table.a, table.b, zero, zero, zero], 1)
        return reals, {}
    reals["pairs"] = _pairs_in_solvent(born, table)
    reals["born_atoms"] = _born_atoms(born)
    if born.neck is not None:
        reach = born.offset_radii[i] + born.offset_radii[j] + 2 * born.offset + born.neck.cut
        height, distance = born.neck.scale * born.neck.height, born.neck.distance
        reals["neck"] = np.stack([height[i, j], distance[i, j], height[j, i], distance[j, i], reach], 1)
    numbers = {
        "rescaled": float(born.tanh is not None),
        "engulfed_term": float(born.engulfed_term),
        "kappa": born.kappa,
        "salt_ratio": born.solute_dielectric / born.solvent_dielectric,
        "born_cutoff": born.cutoff or 0.0,
    }
    return reals, numbers


def _pairs_in_solvent(born: Born, table: PairTable) -> Floats:
    i, j = table.i, table.j
    charge = -born.coulomb * born.charges[i] * born.charges[j]
    screened = charge * (1 / born.solute_dielectric - 1 / born.solvent_dielectric)
    scaled = np.abs(born.scaled_radii)
    # The series hold while the spheres do not overlap and s/r is small; the margin covers rounding.
    touching = np.maximum(born.offset_radii[i] + scaled[j], born.offset_radii[j] + scaled[i]) * (1 + 1e-5)
    larger = np.maximum(scaled[i], scaled[j])
    near = np.maximum(touching, larger / LONG_SERIES**0.5)
    middle = np.maximum(near, larger / SHORT_SERIES**0.5)
    return np.stack([table.charge, table.a, table.b, screened, near**2, middle**2], 1)


def _born_atoms(born: Born) -> Floats:
    radius = born.offset_radii + born.offset
    charge2 = -0.5 * born.coulomb * born.charges**2
    tanh = np.zeros((len(radius), 3)) if born.tanh is None else born.tanh
    columns = [born.offset_radii, 1 / born.offset_radii, 1 / radius, born.scaled_radii, *tanh.T]
    columns += [charge2 / born.solute_dielectric, charge2 / born.solvent_dielectric]
    return np.stack([*columns, born.surface * (radius + ACE_PROBE) ** 2 * radius**6], 1)
