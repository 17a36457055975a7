"""The Boltzmann distribution of a potential at one temperature, or at one temperature per sample."""

import torch
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.potentials.base import Potential
from gibbsian.units import kt


class Boltzmann:
    """Target u(x) = U(x) / kT.

    Parameters
    ----------
    potential
        Energy engine; it counts the calls.
    temperature
        K: one number, or one per conformation, (B,), for batches of exactly that size.

    Raises
    ------
    InputError
        If a temperature is not positive.
    """

    def __init__(self, potential: Potential, temperature: float | Tensor) -> None:
        self.potential = potential
        self.n_atoms = potential.n_atoms
        self.temperature = temperature
        if not bool((torch.as_tensor(temperature) > 0).all()):
            raise InputError(f"temperature: got {temperature} K; give a positive number")

    @property
    def calls(self) -> int:
        """Conformations that the potential has evaluated so far."""
        return self.potential.calls

    def at(self, temperature: float | Tensor) -> "Boltzmann":
        """Return the same potential at another temperature (K), or at one per conformation, (B,)."""
        return Boltzmann(self.potential, temperature)

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy of `x` (B, N, 3) nm: (B,) in kT, float64, inf where not finite; differentiable."""
        return _infinite_if_broken(self.potential.energy(x).double() / self._kt(x))

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) float64 and its gradient (B, N, 3) 1/nm, in one pass.

        Where the energy is not finite the gradient is zero.
        """
        energy, force = self.potential.energy_and_force(x)
        thermal = self._kt(x)
        u = _infinite_if_broken(energy.double() / thermal)
        scale = (-1.0 / thermal).expand(len(x)).to(force.dtype)[:, None, None]
        return u, torch.where(torch.isfinite(u)[:, None, None], force * scale, 0.0)

    def _kt(self, x: Tensor) -> Tensor:
        return kt(1.0) * torch.as_tensor(self.temperature, dtype=torch.float64, device=x.device)


def _infinite_if_broken(u: Tensor) -> Tensor:
    return torch.where(torch.isfinite(u), u, torch.inf)
