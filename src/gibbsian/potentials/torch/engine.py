"""TorchPotential: batches in, energies and analytic forces out."""

import queue
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from gibbsian.chem.parameters import Parameters
from gibbsian.errors import InputError
from gibbsian.potentials.saved_force import SavedForce
from gibbsian.potentials.torch.bonded import Angles, Bonds, Maps, Term, Torsions
from gibbsian.potentials.torch.coefficients import spline_patches, torsion_table
from gibbsian.potentials.torch.pairs import Pairs
from gibbsian.potentials.torch.plain import PlainEnergy
from gibbsian.potentials.torch.workspace import Workspace

# Torch splits an operation over its threads from 32,768 elements on, which costs more than it gains at these sizes;
# below, whole chunks run side by side instead. Arrays of this size also stay in the second-level cache.
BLOCK = 32_767
ACCELERATOR_BLOCK = 16_000_000
KEPT = 8_000_000


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
        Conformations at a time; by default what keeps arrays in the cache.
    differentiable
        Build `energy` from plain operations, so that it can be differentiated twice; slower.

    Raises
    ------
    InputError
        If the system has forces that this engine does not know, or `x` has another number of atoms.

    Notes
    -----
    A conformation whose energy is not a number has energy inf and force zero; it disturbs no other one. On a CPU,
    chunks are spread over `torch.get_num_threads()` threads; results do not depend on their number.
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
        n_pairs = self.n_atoms // 2 * self.n_atoms
        block = BLOCK if cpu else ACCELERATOR_BLOCK
        if chunk is None:
            widest = max(8, min(block // max(self.n_atoms, 1), KEPT // max(n_pairs, 1))) if cpu else 1 << 20
            chunk = min(widest, max(64, block // max(n_pairs, 1)) // 8 * 8, 1024 if cpu else 1 << 20)
        self.chunk = chunk
        self._terms = _terms(parameters, max(block // chunk, 16), dtype, self.device)
        self._spaces: dict[int, queue.SimpleQueue[Workspace]] = {}
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

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
        energy = torch.zeros(len(x), dtype=torch.float64, device=self.device)
        force = torch.empty(x.shape, dtype=x.dtype, device=self.device)
        starts = range(0, len(x), self.chunk)
        moved = x.detach().to(self.device)

        def work(start: int) -> None:
            rows = slice(start, start + self.chunk)
            self._evaluate(moved[rows], energy[rows], force[rows])

        pool = self._threads(len(starts))
        if pool is None:
            for start in starts:
                work(start)
        else:
            for future in [pool.submit(torch.no_grad()(work), start) for start in starts]:
                future.result()
        return energy.to(x.device), force.to(x.device)

    def _evaluate(self, x: Tensor, energy: Tensor, force: Tensor) -> None:
        """Write energies and forces of one chunk."""
        spaces = self._spaces_of(len(x))
        try:
            work = spaces.get_nowait()
        except queue.Empty:
            work = Workspace(self.n_atoms, len(x), self.dtype, self.device)
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
        spaces.put(work)

    def _spaces_of(self, batch: int) -> "queue.SimpleQueue[Workspace]":
        """Idle workspaces of a batch size; the full chunk and the last few remainders are kept."""
        spaces = self._spaces.get(batch)
        if spaces is None:
            spaces = self._spaces[batch] = queue.SimpleQueue()
            for size in [size for size in self._spaces if size not in (self.chunk, batch)][:-2]:
                self._spaces.pop(size, None)
        return spaces

    def _threads(self, n_chunks: int) -> ThreadPoolExecutor | None:
        """A pool as wide as torch's own, or None where it would not help."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or n_chunks < 2 or threads < 2:
            return None
        if self._pool is None or self._pool[0] != threads:
            self._pool = (threads, ThreadPoolExecutor(threads, thread_name_prefix="gibbsian-torch"))
        return self._pool[1]

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.n_atoms, 3):
            raise InputError(f"coordinates: got shape {tuple(x.shape)}, expected (batch, {self.n_atoms}, 3) in nm")


def _terms(parameters: Parameters, rows: int, dtype: torch.dtype, device: torch.device) -> list[Term]:
    """All terms in blocks of at most `rows` rows."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device)

    def index(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=device)

    n = parameters.n_atoms
    terms: list[Term] = []
    for kind, data, width in ((Bonds, parameters.bonds, 2), (Angles, parameters.angles, 3)):
        step = max(rows // width, 1)
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
