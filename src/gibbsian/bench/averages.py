"""Averages at several time steps and from OpenMM, of walkers that all start from the same equilibrium frames.

What is slow (which basin a walker is in) depends on the start, what is fast on the time step. Each walker is compared
with the one that had the same start, so that the start cancels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.chem.parameters import Parameters, Terms
from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.langevin import repartition, run_langevin, start
from gibbsian.dynamics.simulate import simulate
from gibbsian.ensemble.basins import basin_masks
from gibbsian.evaluate.observables import radius_of_gyration
from gibbsian.potentials import TorchPotential, potential
from gibbsian.potentials.base import Integrator
from gibbsian.potentials.compiled import usable_cores
from gibbsian.potentials.openmm_dynamics import OpenMMDynamics, Walk, forms
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread
from gibbsian.units import kt

Floats = NDArray[np.float64]

BASE = "1 fs"
"""What the others are compared with."""


@dataclass(frozen=True)
class Budget:
    """What the averages cost.

    Attributes
    ----------
    walkers
        Independent walkers of every contender.
    exchange_ps
        Length of each walker of the replica exchange that the starts are drawn from.
    exchange_ladders, start_steps
        As in `ExchangeSettings`.
    ps, openmm_ps
        Length of each walker, with gibbsian and with OpenMM.
    settle_ps
        How much of its beginning is left out: the starts come from a time step of 2 fs.
    sample_ps
        Time between the conformations that are averaged.
    timesteps
        fs; one of them is 1.
    """

    walkers: int = 512
    exchange_ps: float = 50.0
    exchange_ladders: int = 96
    start_steps: int = 5_000
    ps: float = 50.0
    openmm_ps: float = 6.0
    settle_ps: float = 1.0
    sample_ps: float = 0.2
    timesteps: tuple[float, ...] = (1.0, 0.5, 2.0)

    def samples(self, ps: float) -> tuple[int, int]:
        """Conformations to leave out at the beginning, and to average, of `ps`."""
        settle = round(self.settle_ps / self.sample_ps)
        return settle, max(1, round(ps / self.sample_ps) - settle)

    def exchange(self, seed: int) -> ExchangeSettings:
        """Return the settings of the replica exchange."""
        default = ExchangeSettings()
        frames = max(1, round(self.exchange_ps / default.timestep / default.save_every))
        return ExchangeSettings(
            ladders=self.exchange_ladders,
            groups=min(usable_cores(), self.exchange_ladders),
            steps=frames * default.save_every,
            start_steps=self.start_steps,
            seed=seed,
        )


def measure(key: RowKey, system: System, budget: Budget | None = None, report: Report = silent) -> Row:
    """Average energies and geometry at the system's temperature, from every contender.

    Returns
    -------
    Row with, for each contender and observable, the average and its error over walkers; for all but 1 fs also the
    difference from 1 fs with the error of the mean difference of walkers with the same start, and that difference in
    such errors.
    """
    budget, seed = budget or Budget(), key.seed or 0
    x = _starts(system, budget, seed)
    observables = Observables(system)
    openmm = f"OpenMM {BASE}"
    names = [*(f"{timestep:g} fs" for timestep in budget.timesteps), openmm]
    report(1, len(names) + 1)
    means: dict[str, Floats] = {}
    for done, timestep in enumerate(budget.timesteps, start=2):
        with one_thread():
            means[f"{timestep:g} fs"] = _engine_means(system, x, timestep / 1000, budget, observables, seed)
        report(done, len(names) + 1)
    means[openmm], what = _openmm_means(system, x, budget, observables, seed)
    report(len(names) + 1, len(names) + 1)
    spent = {
        **asdict(budget),
        "timesteps": list(budget.timesteps),
        "temperature": system.temperature,
        "openmm": what,
        "aggregate_ns": round(budget.walkers * budget.ps / 1000, 3),
        "openmm_aggregate_ns": round(budget.walkers * budget.openmm_ps / 1000, 3),
    }
    return Row(key, compare(observables.names, means), spent, hardware())


class Observables:
    """Numbers of conformations: energies by kind of term, bond lengths, basins, radius of gyration.

    Attributes
    ----------
    names
        Of the averages. The last one, a standard deviation, comes from the last column, which is the squared distance
        of the energy from that of the system's own structure.
    """

    def __init__(self, system: System):
        self._system = system
        self._origin = float(potential(system).energy(torch.from_numpy(system.positions)[None])[0])
        self._parts = {name: _only(system.parameters, name) for name in ("bonds", "angles", "torsions")}
        elements, bonds = system.topology.elements, np.asarray(system.topology.bonds)
        kinds = np.array(["-".join(sorted(elements[i] for i in pair)) for pair in bonds])
        self._lengths = {name: bonds[kinds == name] for name in ("H-N", "C-H", "C-C") if (kinds == name).any()}
        self._basins = list(basin_masks(system.topology, system.positions[None]))
        self.names = (
            "potential energy",
            *(f"energy of {name}" for name in self._parts),
            *(f"{name} length" for name in self._lengths),
            "radius of gyration",
            *self._basins,
            "standard deviation of the potential energy",
        )

    def __call__(self, x: NDArray[np.floating], energy: Floats) -> Floats:
        """Evaluate `x` (B, N, 3) nm with energies (B,) kJ/mol: (B, n)."""
        seen, topology = torch.from_numpy(x).double(), self._system.topology
        columns = [energy]
        columns += [part.energy_and_force(seen)[0].numpy() for part in self._parts.values()]
        for bonds in self._lengths.values():
            columns.append(np.linalg.norm(x[:, bonds[:, 0]] - x[:, bonds[:, 1]], axis=-1).mean(1))
        columns.append(radius_of_gyration(topology, x))
        columns += list(basin_masks(topology, x).values())
        columns.append((energy - self._origin) ** 2)
        return np.stack(columns, axis=1).astype(np.float64)

    def finished(self, means: Floats) -> Floats:
        """Turn the means of each walker (W, n) into what the average over walkers is taken of.

        A standard deviation is no mean. Its linearisation around the mean of all walkers is, and has the same value.
        """
        first, second = means[:, 0] - self._origin, means[:, -1]
        deviation = np.sqrt(second.mean() - first.mean() ** 2)
        change = (second - second.mean()) - 2 * first.mean() * (first - first.mean())
        return np.column_stack([means[:, :-1], deviation + change / (2 * deviation)])


def compare(names: tuple[str, ...], means: Mapping[str, Floats]) -> dict[str, Metric]:
    """Averages over walkers (W, n) of each contender, and differences from `BASE` between walkers of one row."""
    metrics = {}
    for who, values in means.items():
        value, error = _mean(values)
        metrics |= {f"{who}: {name}": Metric(value[k], error[k]) for k, name in enumerate(names)}
    for who, values in means.items():
        if who == BASE:
            continue
        value, error = _mean(values - means[BASE])
        # What never changes in any walker differs by nothing.
        deviation = np.divide(value, error, out=np.zeros_like(value), where=error > 0)
        for k, name in enumerate(names):
            metrics[f"{who} - {BASE}: {name}"] = Metric(value[k], error[k])
        for k, name in enumerate(names):
            metrics[f"{who} - {BASE} in errors: {name}"] = Metric(deviation[k])
        metrics[f"{who} - {BASE} in errors: largest"] = Metric(float(np.abs(deviation).max()))
    return metrics


def _mean(values: Floats) -> tuple[Floats, Floats]:
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def _only(parameters: Parameters, name: str) -> TorchPotential:
    """Potential with one kind of bonded term."""
    empty = {
        field: Terms(terms.atoms[:0], terms.values[:0])
        for field in ("bonds", "angles", "torsions", "rb_torsions", "impropers")
        if (terms := getattr(parameters, field)) is not None and field != name
    }
    return TorchPotential(replace(parameters, cmap=None, nonbonded=None, born=None, **empty))


def _starts(system: System, budget: Budget, seed: int) -> Floats:
    """Draw equilibrium frames (walkers, N, 3) by weight."""
    ensemble = simulate(system, budget.exchange(seed))
    pick = np.random.default_rng(seed).choice(len(ensemble), budget.walkers, p=ensemble.weights)
    return ensemble.positions[pick].astype(np.float64)


def _masses(system: System) -> Floats:
    return repartition(system.parameters.masses, system.topology.elements, system.topology.bonds)


def _engine_means(
    system: System, x: Floats, timestep: float, budget: Budget, observables: Observables, seed: int
) -> Floats:
    """Averages (walkers, n) of each walker by the engine that simulations use."""
    engine = potential(system, dtype=torch.float32)
    integrator = Integrator(torch.from_numpy(_masses(system)), timestep)
    thermal = torch.full((len(x),), kt(system.temperature), dtype=torch.float64)
    # Another time step is another experiment: its noise must not resemble that of the others.
    noise = torch.Generator().manual_seed(1000 * seed + round(1e5 * timestep))
    state = start(torch.from_numpy(x).float(), engine, integrator.masses, thermal, noise)
    settle, n = budget.samples(budget.ps)
    every, total = round(budget.sample_ps / timestep), 0.0
    for sample in range(settle + n):
        state = run_langevin(state, engine, integrator, thermal, every, noise)
        state = replace(state, x=state.x - state.x.mean(1, keepdim=True))
        if sample >= settle:
            total = total + observables(state.x.numpy(), state.energy.double().numpy())
    return observables.finished(np.asarray(total) / n)


def _openmm_means(system: System, x: Floats, budget: Budget, observables: Observables, seed: int) -> tuple[Floats, str]:
    """Averages (walkers, n) of each walker by OpenMM in double precision, and what it was."""
    settle, n = budget.samples(budget.openmm_ps)
    walk = Walk(system.temperature, 0.001, settle + n, round(budget.sample_ps / 0.001))
    # The force of the system itself: this is where another implementation is wanted, not a fast one.
    form = next(form for form in forms(system, _masses(system)) if form.platform == "Reference")
    means = []
    with OpenMMDynamics(form, usable_cores()) as dynamics, one_thread():
        for walked in dynamics.run(x, walk, seed):
            means.append(observables(walked.positions[settle:], walked.energy[settle:]).mean(0))
    return observables.finished(np.array(means)), form.what
