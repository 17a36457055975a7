"""A target restricted to the handedness of a structure, so that every proposal has the same log Z."""

import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.targets.boltzmann import Boltzmann


class Handed:
    """Boltzmann distribution of the conformations with the stereochemistry of `positions`; u is infinite elsewhere.

    Energies are blind to mirror images and to the exchange of two equal hydrogens, and internal-coordinate models never
    leave the handedness of their data. A Cartesian proposal does; its wrong samples get weight zero here.

    Parameters
    ----------
    target
        Without the restriction.
    topology
        Every atom with four neighbours is a centre, labelled hydrogens included.
    positions
        (N, 3) nm, the structure whose handedness counts.
    """

    def __init__(self, target: Boltzmann, topology: Topology, positions: Tensor) -> None:
        self.target = target
        self.n_atoms = target.n_atoms
        centres = [(i, *atoms[:3]) for i, atoms in enumerate(topology.neighbours) if len(atoms) == 4]
        self._topology, self._positions = topology, positions
        self._centres = torch.tensor(centres, dtype=torch.long).reshape(-1, 4)
        self._signs = self._volumes(positions[None]).sign()

    @property
    def calls(self) -> int:
        """Conformations that the potential has evaluated so far."""
        return self.target.calls

    def at(self, temperature: float | Tensor) -> "Handed":
        """Return the same target at another temperature (K), or at one per conformation, (B,)."""
        return Handed(self.target.at(temperature), self._topology, self._positions)

    def right(self, x: Tensor) -> Tensor:
        """Whether each conformation (B, N, 3) has the handedness of the structure, (B,) bool."""
        return (self._volumes(x) * self._signs.to(x) > 0).all(1)

    def u(self, x: Tensor) -> Tensor:
        """Reduced energy of `x` (B, N, 3) nm: (B,) in kT, float64, inf outside; differentiable."""
        return torch.where(self.right(x), self.target.u(x), torch.inf)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced energy (B,) and its gradient (B, N, 3) 1/nm, zero where the energy is infinite."""
        u, grad = self.target.u_and_grad(x)
        right = self.right(x)
        return torch.where(right, u, torch.inf), torch.where(right[:, None, None], grad, 0.0)

    def _volumes(self, x: Tensor) -> Tensor:
        """Signed volumes (B, centres) of the bonds to three neighbours."""
        centre, a, b, c = self._centres.to(x.device).unbind(1)
        origin = x[:, centre]
        return (torch.linalg.cross(x[:, a] - origin, x[:, b] - origin) * (x[:, c] - origin)).sum(-1)
