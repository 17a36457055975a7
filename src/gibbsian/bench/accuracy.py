"""Table `accuracy`: every engine against OpenMM's Reference platform.

Rows are the built-in systems as they are, and one chain of all twenty amino acids in every valid force field and
solvent, with and without a cutoff. Conformations are snapshots of dynamics, displaced at random, and with two atoms
in almost one place.
"""

import torch
from torch import Tensor

from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.tables import Place
from gibbsian.chem.forcefield import PAIRS
from gibbsian.chem.library import built_in, built_in_names
from gibbsian.chem.system import System
from gibbsian.dynamics.langevin import repartition, run_langevin, start
from gibbsian.dynamics.minimise import minimise
from gibbsian.potentials import potential
from gibbsian.potentials.base import Integrator
from gibbsian.potentials.compare import Agreement, compare_engines, displaced
from gibbsian.progress import Report, silent
from gibbsian.units import kt

CHAIN = "ACDEFGHIKLMNPQRSTVWY"
"""All amino acids, with charged ends."""

CUTOFFS = {"nocutoff": None, "cutoff2nm": 2.0}
FRAMES = 4
STEPS = 500
"""Between the snapshots, after a minimisation: 1 ps."""


def rows() -> list[RowKey]:
    """Return the built-in systems, then every force field with every solvent that goes with it."""
    named = [RowKey("accuracy", name, "as-built-in") for name in built_in_names()]
    pairs = [f"{field}+{solvent}+{cutoff}" for field, solvent in PAIRS for cutoff in CUTOFFS]
    return named + [RowKey("accuracy", CHAIN, pair) for pair in pairs]


def run(key: RowKey, place: Place, report: Report = silent) -> Row:
    """Compare all engines on one system."""
    system = _system(key)
    frames = {"md": _snapshots(system), **displaced(system, FRAMES)}
    metrics: dict[str, Metric] = {}
    for row in compare_engines(system, frames):
        metrics |= _metrics(row)
    report(1, 1)
    return Row(key, metrics, {"frames": FRAMES, "kinds": list(frames), "n_atoms": system.n_atoms}, hardware())


def _system(key: RowKey) -> System:
    if key.system != CHAIN:
        return built_in(key.system)
    field, solvent, cutoff = key.row.split("+")
    return System.from_sequence(CHAIN, field, solvent, CUTOFFS[cutoff])


def _metrics(row: Agreement) -> dict[str, Metric]:
    label = f"{row.engine} {row.frames}".strip()
    return {
        f"{label}: relative energy": Metric(row.energy),
        f"{label}: energy kJ/mol": Metric(row.absolute),
        f"{label}: force over rms": Metric(row.force),
    }


def _snapshots(system: System) -> Tensor:
    """Independent walkers after some dynamics at the system's temperature."""
    engine = potential(system, dtype=torch.float64)
    masses = torch.as_tensor(repartition(system.parameters.masses, system.topology.elements, system.topology.bonds))
    thermal = torch.full((FRAMES,), kt(system.temperature), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, _ = minimise(torch.from_numpy(system.positions)[None], engine)
    state = start(x.repeat(FRAMES, 1, 1), engine, masses, thermal, generator)
    return run_langevin(state, engine, Integrator(masses), thermal, STEPS, generator).x
