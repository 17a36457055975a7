"""TritonPotential: the engine for GPUs."""

import os
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from gibbsian.chem.parameters import Parameters
from gibbsian.errors import InputError
from gibbsian.potentials.chunks import in_chunks
from gibbsian.potentials.coefficients import shortest
from gibbsian.potentials.saved_force import SavedForce
from gibbsian.potentials.triton.tables import PairTables, TermLists, pair_tables, term_lists

CHUNK_ELEMENTS = 1 << 26
"""Limit of one array of three components of all atoms, so that memory and 32-bit addresses suffice."""

BLOCK = 256
"""Conformations of a program in a large batch."""

ELEMENTS_OF_A_THREAD = 2
"""Conformations of a thread: two hide latency and are read at once, more take registers."""


def has_triton() -> bool:
    """Whether the library triton is installed."""
    return find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU and for tests only."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def block_for(batch: int) -> int:
    """Conformations of a program, a power of two."""
    return min(max(1 << max(batch - 1, 0).bit_length(), 32), BLOCK)


class TritonPotential:
    """Potential energy by Triton kernels on a GPU, forces from the same pass.

    Parameters
    ----------
    parameters
        Translated system; `parameters.unknown` must be empty.
    dtype
        Precision of the arithmetic, float32 or float64. Energies are summed and returned in float64, forces come in
        the dtype of `x`.
    device
        Where to compute; results return to the device of `x`.

    Raises
    ------
    InputError
        If the library triton or the GPU is missing, the system has forces that this engine does not know, or `x` has
        another number of atoms.
    OutOfMemoryError
        If a single conformation does not fit the memory of the device; larger batches are halved until they fit.

    Notes
    -----
    A conformation whose energy is not a number has energy inf and force zero; it disturbs no other one. The kernels are
    compiled at the first call for a molecule, which takes seconds; Triton keeps the result on disk. Results do not
    depend on the order in which programs run.
    """

    def __init__(self, parameters: Parameters, dtype: torch.dtype = torch.float32, device: torch.device | str = "cuda"):
        if parameters.unknown:
            names = ", ".join(parameters.unknown)
            raise InputError(f"engine triton: does not know the force {names}; use engine openmm")
        self.n_atoms = parameters.n_atoms
        self.calls = 0
        self.dtype = dtype
        self.device = _usable(torch.device(device))
        # A grid has at most 65,535 blocks of conformations, which only molecules of one atom could exceed.
        self.chunk = max(CHUNK_ELEMENTS // (3 * max(self.n_atoms, 2)), 1)
        self._kernels = _Kernels(parameters, dtype, self.device)

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64; its gradient is minus the force."""
        return SavedForce.apply(x, self.energy_and_force)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm, without a graph."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.n_atoms, 3):
            raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {self.n_atoms}, 3) in nm")
        self.calls += len(x)
        energy = torch.empty(len(x), dtype=torch.float64, device=x.device)
        force = torch.empty_like(x)

        def evaluate(rows: slice) -> None:
            energy[rows], force[rows] = self._evaluate(x[rows].detach())

        self.chunk = in_chunks(len(x), self.chunk, evaluate)
        return energy, force

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and forces (B, n_atoms, 3) of one chunk."""
        batch = len(x)
        block = block_for(batch)
        # Conformations innermost; the width is that of whole blocks, and what lies beyond the batch is of no interest.
        width = -(-batch // block) * block
        seen = torch.zeros((3, self.n_atoms, width), dtype=self.dtype, device=self.device)
        seen[:, :, :batch] = x.permute(2, 1, 0)
        energy, force = self._kernels.run(seen, block)
        # Comparisons on a GPU may drop what is not a number, so that coordinates are looked at themselves.
        energy += 0.0 * seen.sum((0, 1))
        finite = torch.isfinite(energy + force.sum((0, 1)))
        energy.masked_fill_(energy.isnan(), torch.inf)
        force.masked_fill_(~finite, 0.0)
        return energy[:batch], force[:, :, :batch].permute(2, 1, 0)


class _Kernels:
    """Tables on the device, and the sequence of kernels."""

    def __init__(self, parameters: Parameters, dtype: torch.dtype, device: torch.device):
        double = dtype == torch.float64
        self.n_atoms, self.device = parameters.n_atoms, device
        self.lists, even = term_lists(parameters, dtype, device)
        torsions = self.lists["torsions"].values
        self.pairs: PairTables | None = None
        if self.n_atoms > 1 and (parameters.nonbonded is not None or parameters.born is not None):
            self.pairs = pair_tables(parameters, dtype, device)
        self.constants: dict[str, Any] = {
            "N": self.n_atoms,
            "DOUBLE": double,
            "EVEN": even,
            "ODD": torsions.shape[1] - even,
            "MAPS": parameters.cmap is not None,
            # A length (nm) or sine below which a direction is not defined, and the shortest distance of a pair.
            "TINY": 1e-10 if double else 1e-6,
            "SHORTEST2": shortest(dtype) ** 2,
            **(self.pairs.constants if self.pairs else {}),
        }

    def run(self, x: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Energies (width,) and forces (3, n_atoms, width) at `x` of that shape, in blocks of conformations."""
        from gibbsian.potentials.triton.bonded_kernels import bonded

        force = torch.empty_like(x)
        energy = torch.zeros((2, *x.shape[1:]), dtype=torch.float64, device=self.device)
        lists = [part for name in _KINDS for part in _parts(self.lists[name])]
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            self._launch(bonded, x, block, force, energy[0], *lists)
            if self.pairs is not None:
                self._run_pairs(self.pairs, x, block, force, energy[1])
        return energy.sum((0, 1)), force

    def _run_pairs(self, tables: PairTables, x: Tensor, block: int, force: Tensor, energy: Tensor) -> None:
        from gibbsian.potentials.triton.pair_kernels import born_radii, chain_forces, pair_energies

        in_solvent = self.constants["IN_SOLVENT"]
        # Born radii, and their derivatives by the sums, which become dE/d(sum).
        born = torch.empty((2, *x.shape[1:]) if in_solvent else (1,), dtype=x.dtype, device=self.device)
        if in_solvent:
            self._launch(born_radii, x, block, tables.atoms, tables.neck, born)
        self._launch(pair_energies, x, block, tables.pairs, tables.atoms, born, force, energy)
        if in_solvent:
            self._launch(chain_forces, x, block, tables.atoms, tables.neck, born, force)

    def _launch(self, kernel: Any, x: Tensor, block: int, *tensors: Tensor) -> None:
        """Run a program for each atom and block of conformations."""
        width = x.shape[2]
        constants = {name: self.constants[name] for name in kernel.arg_names if name in self.constants}
        kernel[(self.n_atoms, width // block)](
            x,
            *tensors,
            width,
            **constants,
            BLOCK_B=block,
            num_warps=max(block // (32 * ELEMENTS_OF_A_THREAD), 1),
            enable_fp_fusion=True,
        )


_KINDS = ("bonds", "angles", "torsions", "impropers", "maps")


def _parts(lists: TermLists) -> tuple[Tensor, Tensor, Tensor]:
    return lists.starts, lists.index, lists.values


def _usable(device: torch.device) -> torch.device:
    if not has_triton():
        raise InputError(
            "engine triton: the library triton is not installed; pip install 'gibbsian[cuda]' or use torch"
        )
    if device.type != "cuda" and not is_interpreted():
        raise InputError(f"engine triton: got device {device}, needs a CUDA device; use engine compiled or torch")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("engine triton: PyTorch finds no CUDA device; use engine compiled or torch")
    return device
