"""The Potential contract, and that of engines which also move what they evaluate."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Potential(Protocol):
    """Potential energy of batches of conformations.

    Attributes
    ----------
    n_atoms
        Number of atoms.
    calls
        Conformations evaluated so far, gradients included.
    """

    n_atoms: int
    calls: int

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,); differentiable, its gradient is minus the force."""
        ...

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol and force (B, n_atoms, 3) in kJ/mol/nm in one pass, without a graph."""
        ...


@dataclass(frozen=True, eq=False)
class LangevinState:
    """Replicas in motion; energy and force belong to the present positions.

    Attributes
    ----------
    x, v
        Positions (B, N, 3) nm and velocities (B, N, 3) nm/ps.
    energy, force
        (B,) kJ/mol and (B, N, 3) kJ/mol/nm at `x`.
    """

    x: Tensor
    v: Tensor
    energy: Tensor
    force: Tensor


@dataclass(frozen=True, eq=False)
class RigidBonds:
    """Bonds of fixed length: atoms (n, 2) and lengths (n,) nm."""

    atoms: Tensor
    lengths: Tensor


@dataclass(frozen=True, eq=False)
class TorsionBias:
    """Harmonic bias k/2 (phi - centre)^2 on torsions, its own for each replica.

    Attributes
    ----------
    atoms
        (n, 4).
    centres, k
        (B, n) rad in [-2 pi, 2 pi], and kJ/mol/rad^2; the difference is taken the shorter way around.
    """

    atoms: Tensor
    centres: Tensor
    k: Tensor


@dataclass(frozen=True, eq=False)
class Integrator:
    """What a step needs besides the state.

    Attributes
    ----------
    masses
        (N,) dalton.
    timestep, friction
        ps and 1/ps.
    rigid
        Bonds of fixed length, or None.
    bias
        Bias on torsions, or None. It is in the forces and not in the energies.
    """

    masses: Tensor
    timestep: float = 0.002
    friction: float = 1.0
    rigid: RigidBonds | None = None
    bias: TorsionBias | None = None


@runtime_checkable
class StepsEngine(Protocol):
    """A potential that runs whole stretches of dynamics inside its engine."""

    def run_steps(
        self,
        state: LangevinState,
        integrator: Integrator,
        kt: Tensor,
        n_steps: int,
        generator: torch.Generator,
        force_cap: float = math.inf,
    ) -> LangevinState:
        """Advance every replica by `n_steps` of the middle scheme at thermal energies `kt` (B,) kJ/mol.

        No atom feels a force longer than `force_cap`, kJ/mol/nm.
        """
        ...
