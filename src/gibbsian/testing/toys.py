"""Toy potentials and targets whose normalising constants and populations are known."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.chem.topology import Topology
from gibbsian.units import kt


class Toy:
    """A potential defined by its `_energy`; forces come from autograd."""

    n_atoms: int
    calls: int = 0

    def _energy(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, N, 3) nm in kJ/mol, (B,)."""
        self.calls += len(x)
        return self._energy(x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) kJ/mol and force (B, N, 3) kJ/mol/nm."""
        self.calls += len(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            energy = self._energy(leaf)
            (grad,) = torch.autograd.grad(energy.sum(), leaf)
        return energy.detach(), -grad


@dataclass(eq=False)
class GaussianWell(Toy):
    """Independent harmonic wells k r^2 / 2 about the origin: every coordinate has variance kT/k."""

    n_atoms: int = 1
    k: float = 1000.0
    calls: int = 0

    def _energy(self, x: Tensor) -> Tensor:
        return 0.5 * self.k * x.square().sum((1, 2))

    def log_z(self, temperature: float) -> float:
        """Return log of the integral of exp(-U/kT) over (N, 3) coordinates in nm."""
        return 1.5 * self.n_atoms * math.log(2 * math.pi * kt(temperature) / self.k)


@dataclass(eq=False)
class GaussianMixture(Toy):
    """One atom in U = -kT0 ln sum_i w_i N(x; m_i, s^2); at `temperature` the target is the mixture itself."""

    means: Tensor = field(default_factory=lambda: torch.tensor([[-0.3, 0.0, 0.0], [0.3, 0.0, 0.0]]))
    weights: Tensor = field(default_factory=lambda: torch.tensor([0.8, 0.2]))
    width: float = 0.1
    temperature: float = 300.0
    n_atoms: int = 1
    calls: int = 0

    def _energy(self, x: Tensor) -> Tensor:
        means, weights = self.means.to(x), self.weights.to(x)
        square = (x - means).square().sum(-1) / self.width**2
        log_density = -0.5 * square - 3 * math.log(self.width * math.sqrt(2 * math.pi))
        return -kt(self.temperature) * torch.logsumexp(weights.log() + log_density, 1)

    def log_z(self) -> float:
        """Return zero: at `temperature` the density is normalised when the weights are."""
        return float(self.weights.double().sum().log())

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` exact samples (n, 1, 3) at `temperature`."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, 3, generator=generator)
        return (self.means[which] + self.width * noise)[:, None]


@dataclass(eq=False)
class DoubleWell(Toy):
    """Two atoms at distance r with U = h (y^2 - 1)^2 + tilt y, y = (r - c)/w: wells near c - w and c + w."""

    height: float = 12.0
    tilt: float = 3.0
    centre: float = 0.4
    width: float = 0.1
    n_atoms: int = 2
    calls: int = 0

    def _energy(self, x: Tensor) -> Tensor:
        return self.of_distance(torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=-1))

    def of_distance(self, r: Tensor) -> Tensor:
        """Energy in kJ/mol at distance `r` nm."""
        y = (r - self.centre) / self.width
        return self.height * (y.square() - 1).square() + self.tilt * y

    def _shells(self, temperature: float) -> tuple[Tensor, Tensor]:
        r = torch.linspace(1e-6, self.centre + 5 * self.width, 200_001, dtype=torch.float64)
        return r, 4 * math.pi * r.square() * torch.exp(-self.of_distance(r) / kt(temperature))

    def log_z(self, temperature: float) -> float:
        """Return log of the integral of exp(-U/kT) over the orthonormal coordinate (x1 - x2)/sqrt(2), nm."""
        r, density = self._shells(temperature)
        return float(torch.trapezoid(density, r).log()) - 1.5 * math.log(2.0)

    def population(self, temperature: float) -> float:
        """Probability of r > c."""
        r, density = self._shells(temperature)
        far = r > self.centre
        return float(torch.trapezoid(density * far, r) / torch.trapezoid(density, r))


@dataclass(eq=False)
class HarmonicMolecule(Toy):
    """Atoms all joined by springs of zero length, k/2 sum_{i<j} |x_i - x_j|^2: 3N - 3 normal modes of N k."""

    n_atoms: int = 4
    k: float = 500.0
    calls: int = 0

    def _energy(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return 0.5 * self.k * self.n_atoms * centred.square().sum((1, 2))

    def log_z(self, temperature: float) -> float:
        """Return log of the integral over the mean-free orthonormal coordinates, nm."""
        return 1.5 * (self.n_atoms - 1) * math.log(2 * math.pi * kt(temperature) / (self.k * self.n_atoms))


def toy_system(positions: np.ndarray, temperature: float = 300.0, mass: float = 12.0) -> System:
    """Return a System of unbonded carbon atoms at `positions` (N, 3) nm; forces come from a toy."""
    import openmm

    n = len(positions)
    openmm_system = openmm.System()
    for _ in range(n):
        openmm_system.addParticle(mass)
    topology = Topology(
        atom_names=tuple(f"C{i}" for i in range(n)),
        elements=("C",) * n,
        residue_index=np.zeros(n, dtype=np.int64),
        residue_names=("TOY",),
        residue_ids=("1",),
        bonds=np.zeros((0, 2), dtype=np.int64),
    )
    return System("TOY", "custom", "custom", "custom", None, temperature, topology, positions, openmm_system)
