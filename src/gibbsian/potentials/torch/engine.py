"""TorchPotential: batches in, energies and analytic forces out."""

from typing import Any

import torch
from torch import Tensor

from gibbsian.chem.parameters import Parameters
from gibbsian.errors import InputError
from gibbsian.potentials.chunks import in_chunks
from gibbsian.potentials.coefficients import spline_patches, torsion_table
from gibbsian.potentials.saved_force import SavedForce
from gibbsian.potentials.torch.bonded import Angles, Bonds, Impropers, Maps, Term, Torsions
from gibbsian.potentials.torch.pairs import Pairs
from gibbsian.potentials.torch.plain import PlainEnergy
from gibbsian.potentials.torch.workspace import Workspace

CPU_ELEMENTS = 32_767
"""Size of the arrays that a sweep works on. From 32,768 elements on torch splits each operation over its threads, which
at these sizes gains little on an idle machine and costs a factor of a hundred and more on a busy one. The kernels also
avoid exp, log, sqrt and tanh, which the vendor's mathematical library threads at any size."""

LONE_THREAD_ELEMENTS = 131_072
"""The same where torch has one thread and cannot split anything."""

KEPT_BYTES = 32 * 1024 * 1024
"""Limit of one array that is kept between the sweeps over the pairs of large molecules."""

ACCELERATOR_ELEMENTS = 1 << 26
"""The same on an accelerator."""


class TorchPotential:
    """Potential energy in batch-innermost torch operations, forces from the same pass.

    Parameters
    ----------
    parameters
        Translated system; `parameters.unknown` must be empty.
    dtype
        Precision of the arithmetic. Energies are summed and returned in float64, forces come in the dtype of `x`.
    device
        Where to compute; results return to the device of `x`.
    chunk
        Conformations at a time; by default what keeps arrays in the cache. Halved for good when memory runs out.
    differentiable
        Build `energy` from plain operations, so that it can be differentiated twice; slower.

    Raises
    ------
    InputError
        If the system has forces that this engine does not know, or `x` has another number of atoms.
    OutOfMemoryError
        If a single conformation does not fit the memory of the device.

    Notes
    -----
    A conformation whose energy is not a number has energy inf and force zero; it disturbs no other one. Not to be
    called from several threads at once.
    """

    def __init__(
        self,
        parameters: Parameters,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        chunk: int | None = None,
        differentiable: bool = False,
    ):
        if parameters.unknown:
            names = ", ".join(parameters.unknown)
            raise InputError(f"engine torch: does not know the force {names}; use engine openmm")
        self.n_atoms = parameters.n_atoms
        self.calls = 0
        self.dtype = dtype
        self.device = torch.device(device)
        self.plain = PlainEnergy(parameters, dtype, self.device) if differentiable else None
        cpu = self.device.type == "cpu"
        on_cpu = CPU_ELEMENTS if torch.get_num_threads() > 1 else LONE_THREAD_ELEMENTS
        elements = on_cpu if cpu else ACCELERATOR_ELEMENTS
        self.chunk = chunk or _chunk(parameters.n_atoms, elements, KEPT_BYTES // dtype.itemsize if cpu else elements)
        self._terms = _terms(parameters, max(elements // self.chunk, 1), dtype, self.device)
        self._spaces: dict[int, Workspace] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Workspaces know their terms by identity, which a copy does not share.
        return {**self.__dict__, "_spaces": {}}

    def energy(self, x: Tensor) -> Tensor:
        """Energy of `x` (B, n_atoms, 3) nm in kJ/mol, (B,), float64; its gradient is minus the force."""
        if self.plain is not None:
            self._check(x)
            self.calls += len(x)
            return self.plain(x.to(self.device)).to(x.device)
        return SavedForce.apply(x, self.energy_and_force)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energy (B,) in kJ/mol, float64, and force (B, n_atoms, 3) in kJ/mol/nm, without a graph."""
        self._check(x)
        self.calls += len(x)
        energy = torch.empty(len(x), dtype=torch.float64, device=x.device)
        force = torch.empty_like(x)

        def evaluate(rows: slice) -> None:
            self._evaluate(x[rows], energy[rows], force[rows])

        self.chunk = in_chunks(len(x), self.chunk, evaluate, self._spaces.clear)
        return energy, force

    def _evaluate(self, x: Tensor, onto_energy: Tensor, force: Tensor) -> None:
        """Write energies and forces of one chunk."""
        energy = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        work = self._space(len(x))
        work.x.all.copy_(x.permute(2, 1, 0))
        work.x_twice.all[:, self.n_atoms :].copy_(work.x.all)
        total = work.force.all.zero_()
        for term in self._terms:
            term.add(work, energy)
        finite = torch.isfinite(energy + total.sum((0, 1)))
        if self.device.type != "cpu" or not bool(finite.all()):
            energy.masked_fill_(energy.isnan(), torch.inf)
            total.masked_fill_(~finite, 0.0)
        force.copy_(total.permute(2, 1, 0))
        onto_energy.copy_(energy)

    def _space(self, batch: int) -> Workspace:
        """Workspace for a batch size; that of the full chunk and those of the last two remainders are kept."""
        work = self._spaces.get(batch)
        if work is None:
            for size in [size for size in self._spaces if size != self.chunk][:-1]:
                del self._spaces[size]
            work = self._spaces[batch] = Workspace(self.n_atoms, batch, self.dtype, self.device)
        return work

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.n_atoms, 3):
            raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {self.n_atoms}, 3) in nm")


def _chunk(n_atoms: int, elements: int, kept: int) -> int:
    """Conformations at a time: whole pair arrays in the cache for small molecules, long enough rows for large ones."""
    n_pairs = max(n_atoms // 2 * n_atoms, 1)
    fitting = max(elements // n_pairs, 32)
    return max(min(fitting, kept // n_pairs, elements // (3 * max(n_atoms, 64))) // 8 * 8, 8)


def _terms(parameters: Parameters, rows: int, dtype: torch.dtype, device: torch.device) -> list[Term]:
    """All terms in blocks of at most `rows` rows."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    def index(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=device)

    n = parameters.n_atoms
    terms: list[Term] = []
    # Vectors have three components.
    step = max(rows // 3, 1)
    blocks = ((Bonds, parameters.bonds), (Angles, parameters.angles), (Impropers, parameters.impropers))
    for kind, data in blocks:
        for start in range(0, len(data), step):
            cut = slice(start, start + step)
            terms.append(kind(index(data.atoms[cut]), tensor(data.values[cut]), n, rows))
    table = torsion_table(parameters)
    step = max(rows // 4, 1) if parameters.cmap is None else len(table.atoms)
    for start in range(0, len(table.atoms), max(step, 1)):
        cut = slice(start, start + step)
        maps = None
        if parameters.cmap is not None:
            patches = [tensor(patch) for patch in spline_patches(parameters.cmap)]
            maps = Maps(patches, index(parameters.cmap.index), index(table.cmap))
        terms.append(
            Torsions(index(table.atoms[cut]), tensor(table.even[:, cut]), tensor(table.odd[:, cut]), maps, n, rows)
        )
    if n > 1 and (parameters.nonbonded is not None or parameters.born is not None):
        terms.append(Pairs(parameters, rows, dtype, device))
    return terms
