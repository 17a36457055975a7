"""Restraints and a user's own energy, and their sum with a force field of any engine.

Each is a `Potential`. Parameters may be one number, or a tensor (B,) with one for each walker of the batch, as
umbrella windows need them. Restraints compute in float64 whatever the dtype of the coordinates.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gibbsian.errors import InputError
from gibbsian.potentials.base import Potential
from gibbsian.potentials.saved_force import SavedForce

PerWalker = float | Tensor
"""One number, or one for each walker of the batch (B,)."""


class _Restraint(ABC):
    """What restraints share: shapes, counting, broken conformations."""

    def __init__(self, n_atoms: int, atoms: Sequence[int] | Tensor) -> None:
        self.n_atoms = n_atoms
        self.calls = 0
        self._atoms = torch.as_tensor(atoms, dtype=torch.int64).reshape(-1)
        if len(self._atoms) == 0 or int(self._atoms.min()) < 0 or int(self._atoms.max()) >= n_atoms:
            raise InputError(f"restraint: atoms {self._atoms.tolist()}; give indices from 0 to {n_atoms - 1}")

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64; its gradient is minus the force."""
        return SavedForce.apply(x, self.energy_and_force)  # pyright: ignore[reportReturnType]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm in the dtype of `x`."""
        _check_shape(x, self.n_atoms)
        self.calls += len(x)
        x = x.detach()
        atoms = self._atoms.to(x.device)
        energy, gradient = self._evaluate(x[:, atoms].double())
        whole = torch.isfinite(x).all(dim=2).all(dim=1) & torch.isfinite(energy)
        whole &= torch.isfinite(gradient).all(dim=2).all(dim=1)
        gradient = torch.where(whole[:, None, None], gradient, 0.0)
        force = torch.zeros_like(x).index_add_(1, atoms, gradient.to(x.dtype), alpha=-1)
        return torch.where(whole, energy, math.inf), force

    @abstractmethod
    def _evaluate(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) and its gradient (B, k, 3) for the restraint's atoms `r` (B, k, 3), float64."""


class Umbrella(_Restraint):
    """Harmonic restraint of a torsion or a distance: ``0.5 k (s - centre)**2``.

    Parameters
    ----------
    n_atoms
        Of the molecule.
    atoms
        Four atoms for a torsion, whose difference is taken the short way round; two for a distance.
    centre
        rad or nm, one number or (B,).
    force_constant
        k in kJ/mol/rad^2 or kJ/mol/nm^2, one number or (B,).

    Raises
    ------
    InputError
        For another number of atoms, or parameters that are not finite or negative.
    """

    def __init__(self, n_atoms: int, atoms: Sequence[int], centre: PerWalker, force_constant: PerWalker) -> None:
        super().__init__(n_atoms, atoms)
        if len(self._atoms) not in (2, 4) or len(set(self._atoms.tolist())) != len(self._atoms):
            raise InputError(f"umbrella: atoms {tuple(atoms)}; give two for a distance or four for a torsion")
        self._centre = _parameter("centre", centre)
        self._k = _parameter("force_constant", force_constant, positive=True)

    def _evaluate(self, r: Tensor) -> tuple[Tensor, Tensor]:
        if len(self._atoms) == 2:
            value, slope = _distance(r)
            away = value - _of_batch(self._centre, r)
        else:
            value, slope = _torsion(r)
            away = value - _of_batch(self._centre, r)
            away = away - 2 * math.pi * torch.round(away / (2 * math.pi))
        k = _of_batch(self._k, r)
        return 0.5 * k * away.square(), (k * away)[:, None, None] * slope


class FlatBottom(_Restraint):
    """Distance restraint that is zero between two bounds and harmonic outside of them.

    Parameters
    ----------
    n_atoms
        Of the molecule.
    atoms
        The two atoms.
    upper, lower
        Bounds in nm, one number or (B,).
    force_constant
        kJ/mol/nm^2, one number or (B,).

    Raises
    ------
    InputError
        For another number of atoms, or bounds or constants that make no sense.
    """

    def __init__(
        self,
        n_atoms: int,
        atoms: Sequence[int],
        upper: PerWalker,
        force_constant: PerWalker,
        lower: PerWalker = 0.0,
    ) -> None:
        super().__init__(n_atoms, atoms)
        if len(self._atoms) != 2 or len(set(self._atoms.tolist())) != 2:
            raise InputError(f"flat bottom: atoms {tuple(atoms)}; give two")
        self._upper = _parameter("upper", upper, positive=True)
        self._lower = _parameter("lower", lower, positive=True)
        self._k = _parameter("force_constant", force_constant, positive=True)
        if bool((self._lower > self._upper).any()):
            raise InputError("flat bottom: the lower bound is above the upper one; exchange them")

    def _evaluate(self, r: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = _distance(r)
        away = (value - _of_batch(self._upper, r)).clamp(min=0.0) + (value - _of_batch(self._lower, r)).clamp(max=0.0)
        k = _of_batch(self._k, r)
        return 0.5 * k * away.square(), (k * away)[:, None, None] * slope


class Chirality(_Restraint):
    """Keeps stereocentres from inverting: zero above a signed volume, ``0.5 k (volume - v)**2`` below.

    The signed volume v of a centre is ``(a x b) . c`` of the unit vectors of its bonds: 0.72 with a deviation of 0.05
    in a peptide at 300 K, minus that in its mirror image, zero where the centre is planar.

    Parameters
    ----------
    n_atoms
        Of the molecule.
    centres
        (centre, a, b, c) of each, with a positive volume in the wanted form;
        `gibbsian.chem.residues.chiral_centres` lists those of an L-peptide.
    force_constant
        kJ/mol for each centre. One that has inverted costs about half of it.
    volume
        Bound, between -1 and 1.

    Raises
    ------
    InputError
        If a centre has not four different atoms, or the bound or the constant makes no sense.
    """

    def __init__(
        self,
        n_atoms: int,
        centres: Sequence[Sequence[int]],
        force_constant: PerWalker = 1000.0,
        volume: float = 0.3,
    ) -> None:
        if not centres or any(len(set(c)) != 4 or len(c) != 4 for c in centres):
            raise InputError(f"chirality: centres {list(centres)}; give four different atoms for each")
        if not -1.0 <= volume <= 1.0:
            raise InputError(f"chirality: volume {volume:g}; give one between -1 and 1")
        super().__init__(n_atoms, [atom for centre in centres for atom in centre])
        self._k = _parameter("force_constant", force_constant, positive=True)
        self._volume = volume

    def _evaluate(self, r: Tensor) -> tuple[Tensor, Tensor]:
        r = r.reshape(len(r), len(self._atoms) // 4, 4, 3)
        bonds = r[:, :, 1:] - r[:, :, :1]
        length = torch.linalg.vector_norm(bonds, dim=-1, keepdim=True).clamp_min(_TINY)
        unit = bonds / length
        # a' = b x c and so on, cyclically: the gradient of the triple product.
        partner = torch.linalg.cross(unit.roll(-1, dims=2), unit.roll(-2, dims=2))
        volume = (unit[:, :, :1] * partner[:, :, :1]).sum(-1, keepdim=True)
        slope = (partner - volume * unit) / length
        away = (self._volume - volume[..., 0, 0]).clamp(min=0.0)
        k = _of_batch(self._k, r)
        outer = -(k[:, None] * away)[..., None, None] * slope
        gradient = torch.cat([-outer.sum(2, keepdim=True), outer], dim=2)
        return 0.5 * k * away.square().sum(1), gradient.reshape(len(r), len(self._atoms), 3)


class Custom:
    """A user's own energy, differentiated by torch.

    Parameters
    ----------
    n_atoms
        Of the molecule.
    function
        (B, n_atoms, 3) nm -> (B,) kJ/mol, made of torch operations, each conformation by itself. What is not
        finite counts as an infinite energy.
    """

    def __init__(self, n_atoms: int, function: Callable[[Tensor], Tensor]) -> None:
        self.n_atoms = n_atoms
        self.calls = 0
        self._function = function

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64, differentiable as often as the function."""
        _check_shape(x, self.n_atoms)
        self.calls += len(x)
        if len(x) == 0:
            return x.sum(dim=(1, 2)).double()
        whole = torch.isfinite(x).all(dim=2).all(dim=1)
        value = self._function(torch.where(whole[:, None, None], x, 0.0))
        if value.shape != (len(x),):
            raise InputError(f"custom energy: the function gave shape {tuple(value.shape)}; return ({len(x)},)")
        return torch.where(whole & torch.isfinite(value), value.double(), math.inf)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm in the dtype of `x`."""
        leaf = x.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            energy = self.energy(leaf)
            if not energy.requires_grad:  # the function is constant
                return energy, torch.zeros_like(leaf)
            (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        energy = torch.where(torch.isfinite(gradient).all(dim=2).all(dim=1), energy.detach(), math.inf)
        return energy, torch.where(torch.isfinite(energy)[:, None, None], -gradient, 0.0)


class Sum:
    """Sum of potentials of one molecule: a force field in any engine and what is added to it.

    Parameters
    ----------
    potentials
        At least one; they keep their own counts of calls.

    Raises
    ------
    InputError
        If there is none, or they are of different numbers of atoms.
    """

    def __init__(self, potentials: Sequence[Potential]) -> None:
        counts = {potential.n_atoms for potential in potentials}
        if len(counts) != 1:
            raise InputError(f"sum of potentials: of {sorted(counts)} atoms; give potentials of one molecule")
        self.potentials = tuple(potentials)
        self.n_atoms = counts.pop()
        self.calls = 0

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,); its gradient is minus the force."""
        self.calls += len(x)
        total = torch.stack([potential.energy(x) for potential in self.potentials]).sum(0)
        return torch.where(total.isnan(), math.inf, total)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol and force (B, n_atoms, 3) in kJ/mol/nm, zero where the energy is not finite."""
        self.calls += len(x)
        parts = [potential.energy_and_force(x) for potential in self.potentials]
        energy, force = parts[0]
        for more_energy, more_force in parts[1:]:
            energy, force = energy + more_energy, force + more_force
        energy = torch.where(energy.isnan(), math.inf, energy)
        return energy, torch.where(torch.isfinite(energy)[:, None, None], force, 0.0)


_TINY = 1e-12
"""nm; keeps directions of coinciding atoms finite."""


def _distance(r: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (B,) of two atoms (B, 2, 3) and its gradient."""
    bond = r[:, 1] - r[:, 0]
    length = torch.linalg.vector_norm(bond, dim=-1)
    unit = bond / length.clamp_min(_TINY)[:, None]
    return length, torch.stack([-unit, unit], dim=1)


def _torsion(r: Tensor) -> tuple[Tensor, Tensor]:
    """Torsion (B,) of four atoms (B, 4, 3), IUPAC sign, and its gradient (Blondel and Karplus 1996)."""
    first, axis, last = (r[:, 1:] - r[:, :-1]).unbind(1)
    left, right = torch.linalg.cross(first, axis), torch.linalg.cross(axis, last)
    length = torch.linalg.vector_norm(axis, dim=-1)
    angle = torch.atan2(length * (first * right).sum(-1), (left * right).sum(-1))
    begin = -(length / left.square().sum(-1).clamp_min(_TINY**2))[:, None] * left
    end = (length / right.square().sum(-1).clamp_min(_TINY**2))[:, None] * right
    square = axis.square().sum(-1).clamp_min(_TINY**2)
    near, far = ((first * axis).sum(-1) / square)[:, None], ((last * axis).sum(-1) / square)[:, None]
    second, third = -(1 + near) * begin + far * end, -(1 + far) * end + near * begin
    return angle, torch.stack([begin, second, third, end], dim=1)


def _parameter(name: str, value: PerWalker, positive: bool = False) -> Tensor:
    tensor = torch.as_tensor(value, dtype=torch.float64).detach()
    if tensor.ndim > 1 or not bool(torch.isfinite(tensor).all()) or (positive and bool((tensor < 0).any())):
        wanted = "finite and not negative" if positive else "finite"
        raise InputError(f"restraint: {name} {value}; give one number or one per walker, {wanted}")
    return tensor


def _of_batch(parameter: Tensor, r: Tensor) -> Tensor:
    """Parameter as (B,) on the device of the coordinates."""
    if parameter.ndim == 1 and len(parameter) != len(r):
        raise InputError(f"restraint: parameters of {len(parameter)} walkers for {len(r)} conformations; give as many")
    return parameter.to(r.device).expand(len(r))


def _check_shape(x: Tensor, n_atoms: int) -> None:
    if x.ndim != 3 or tuple(x.shape[1:]) != (n_atoms, 3):
        raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {n_atoms}, 3) in nm")
