"""What the rows of the table `sbg` are made of: simulations and training data.

Everything lies in resumable folders beside the results and is shared by the rows that need it. Data and reference are
replica exchange with the same settings and different seeds: no proposal is ever judged by what it has seen.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gibbsian.bench import references
from gibbsian.bench.account import metered, spent_in
from gibbsian.bench.certify import tica_of
from gibbsian.bench.tables import Place
from gibbsian.chem.library import built_in
from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.dynamics.simulate import simulate
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import ramachandran
from gibbsian.ensemble.reference import Reference, ReferenceBasin, load_reference
from gibbsian.evaluate.certified import for_molecule
from gibbsian.evaluate.slow_modes import Tica
from gibbsian.progress import Report, silent
from gibbsian.targets.handed import Handed
from gibbsian.training.data import split
from gibbsian.workflow.system import target_of

LAWS = ("exchange", "contiguous", "phi-biased")
"""What proposals are trained on: replica exchange with its weights; one short trajectory at the system's temperature,
as published; replica exchange with the left basin of the first residue raised to a half, as published."""

PLAIN = ("proposal", "snis")
"""What needs no more than draws, with their densities or with their weights."""

DATA_SEED, REFERENCE_SEED, CONTINUOUS_SEED = 0, 1000, 2000


@dataclass(frozen=True)
class Budget:
    """What the rows of a system cost.

    Attributes
    ----------
    dynamics
        Replica exchange of data and reference, and the runs for slow modes where no certified reference has them.
    contiguous_ns
        Length of the trajectory of the published protocol; a frame every 0.1 ps.
    steps, few_steps
        Training steps of a proposal: on the data of the package with the first seed, and else.
    draws
        Numbers of draws of rows.
    repeats, few_repeats
        Sampling seeds of a row: of importance sampling, and of annealing and exchange, which have one at the largest
        number of draws.
    levels
        Levels of annealing with the published settings.
    compared, transported, transported_once
        Samples in distances, in those that solve an assignment problem, and in one T-W2 of the size of the published
        ones (0 for none).
    splits
        Of the reference, for floors.
    curve
        Shares of the training at which its weights are kept.
    """

    dynamics: references.Budget
    contiguous_ns: float
    steps: int
    few_steps: int = 2_000
    draws: tuple[int, ...] = (10_000, 100_000)
    repeats: int = 3
    few_repeats: int = 1
    levels: int = 100
    compared: int = 10_000
    transported: int = 2_000
    transported_once: int = 10_000
    splits: int = 5
    curve: tuple[float, ...] = (0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 1.0)

    def seeds_of(self, what: str, n: int, sizes: Sequence[int]) -> int:
        """Return the number of sampling seeds of a row of `n` draws, one of several sizes."""
        if what in PLAIN:
            return self.repeats
        return self.few_repeats if n < max(sizes) or len(sizes) == 1 else 1


@dataclass(frozen=True)
class Desk:
    """The place of one system.

    Attributes
    ----------
    name, budget
        Built-in name, and what may be spent.
    folder
        Where its work lies.
    """

    name: str
    budget: Budget
    folder: Path

    @classmethod
    def of(cls, name: str, budget: Budget, place: Place) -> "Desk":
        """Return the desk of a system in the work folder of a place."""
        return cls(name, budget, place.work / "sbg" / name)

    @cached_property
    def system(self) -> System:
        """The built-in system with its own settings."""
        return built_in(self.name)

    @cached_property
    def certified(self) -> Reference | None:
        """Certified reference that comes with the package, if there is one."""
        return for_molecule(load_reference(self.system.key), self.system.topology)

    def target(self) -> Handed:
        """Return a fresh target, whose calls start at zero."""
        return target_of(self.system)


def simulated(desk: Desk, name: str, settings: ExchangeSettings, report: Report = silent) -> Ensemble:
    """Simulate in a folder of that name, or continue, and keep the account."""
    folder, steps = desk.folder / name, []

    def noted(done: float, total: float, /, **figures: float | str) -> None:
        steps.append(done)
        report(done, total, **figures)

    with metered(folder) as meter:
        ensemble = simulate(desk.system, settings, folder, report=noted)
        meter.idle = not steps
    return ensemble


def data(desk: Desk, report: Report = silent) -> Ensemble:
    """Return the replica exchange that proposals learn from."""
    return simulated(desk, "data", desk.budget.dynamics.exchange(desk.system, DATA_SEED), report)


def reference(desk: Desk, report: Report = silent) -> Ensemble:
    """Return the replica exchange that proposals are judged by."""
    return simulated(desk, "reference", desk.budget.dynamics.exchange(desk.system, REFERENCE_SEED), report)


def contiguous(desk: Desk, report: Report = silent) -> Ensemble:
    """Return one trajectory at the system's temperature from its first frame on."""
    every = ExchangeSettings().exchange_every
    steps = max(1, math.ceil(1000 * desk.budget.contiguous_ns / ExchangeSettings().timestep / every)) * every
    settings = ExchangeSettings(
        temperatures=(desk.system.temperature,),
        ladders=1,
        groups=1,
        steps=steps,
        equilibration=min(steps, 5_000) // every * every,
        save_every=every,
        shard=1000,
        start_steps=0,
        seed=DATA_SEED,
    )
    return simulated(desk, "contiguous", settings, report)


def equal_cost(desk: Desk, core_seconds: float, label: str, report: Report = silent) -> Ensemble:
    """Return what replica exchange gives for so many core-seconds: the data's own simulation, continued in a copy.

    Its beginning costs more than its steps and comes only once, so a tenth of what is missing tells what steps cost.
    """
    begun = data(desk, report)
    settings = desk.budget.dynamics.exchange(desk.system, DATA_SEED)
    spent = spent_in(desk.folder / "data")
    if core_seconds <= spent:
        return begun
    name, frame, steps = f"equal-cost-{label}", settings.save_every, settings.steps
    tenth = _whole(0.1 * (core_seconds / spent - 1.0) * (steps + settings.equilibration), frame)
    _continued(desk, "data", f"{name}-begun", replace(settings, steps=steps + tenth), report)
    begun_for = spent_in(desk.folder / f"{name}-begun")
    more = _whole((core_seconds - begun_for) * tenth / max(begun_for - spent, 1e-9), frame)
    return _continued(desk, f"{name}-begun", name, replace(settings, steps=steps + tenth + more), report)


def _whole(steps: float, frame: int) -> int:
    """Return whole frames of steps, one at least."""
    return max(1, round(steps / frame)) * frame


def _continued(desk: Desk, source: str, name: str, settings: ExchangeSettings, report: Report) -> Ensemble:
    """Continue a copy of a simulation."""
    folder = desk.folder / name
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(desk.folder / source, partial)
        partial.rename(folder)
    return simulated(desk, name, settings, report)


def slow_modes(desk: Desk, report: Report = silent) -> tuple[Tica, str]:
    """Return a projection fitted on continuous runs, and where it is from: the certified reference, else made here."""
    if desk.certified is not None and desk.certified.slow_modes is not None:
        modes = desk.certified.slow_modes
        return Tica(modes.mean, modes.components, modes.eigenvalues, 1), "certified reference"
    dynamics = desk.budget.dynamics
    runs = simulated(desk, "continuous", dynamics.continuous(desk.system, CONTINUOUS_SEED), report)
    return tica_of(runs, dynamics.lag_ps)[0], "continuous runs of this row"


def known_basins(desk: Desk, ensemble: Ensemble) -> tuple[tuple[ReferenceBasin, ...], str]:
    """Return basins that results are judged by, and where they are from: certified, else those of the reference."""
    if desk.certified is not None:
        return desk.certified.basins, "certified reference"
    masks = basin_masks(ensemble.topology, ensemble.positions)
    found = (ReferenceBasin(name, ensemble.free_energy(m), ensemble.expectation(m)) for name, m in masks.items())
    return tuple(found), "reference ensemble, not certified"


def training_data(desk: Desk, law: str, held_out: tuple[float, int], report: Report = silent) -> Ensemble:
    """Return frames by one of `LAWS`.

    Parameters
    ----------
    held_out
        Share and seed of the split that the training will make: only what it learns from is ever biased.
    """
    if law == "contiguous":
        return contiguous(desk, report)
    frames = data(desk, report)
    return phi_biased(frames, held_out) if law == "phi-biased" else frames


def phi_biased(frames: Ensemble, held_out: tuple[float, int]) -> Ensemble:
    """Raise the weights of training frames near phi = 1 of the first residue until the left basin has about a half.

    ``omega(phi) = 1 + r f(phi)`` with the von Mises density f of mean 1 rad and concentration 10, and
    ``r = P(rest) / P(left)`` (form of arXiv 2306.15030). Weights in place of copies: batches are drawn by weight.
    """
    _, angles = ramachandran(frames.topology, frames.positions)
    phi = angles[:, 0, 0]
    left = float(frames.weights @ ((phi > 0) & (phi < np.radians(126))))
    ratio = (1 - left) / max(left, 1.0 / len(frames))
    omega = 1 + ratio * np.exp(10 * (np.cos(phi - 1.0) - 1)) / (2 * np.pi * _scaled_bessel(10.0))
    # Frames are told apart by a number of their own, so that the split's choice can be seen from outside.
    numbered = replace(frames, u=np.arange(len(frames), dtype=np.float64))
    chosen, _ = split(numbered, *held_out)
    assert chosen.u is not None
    log_w = frames.log_w.copy()
    log_w[chosen.u.astype(np.int64)] += np.log(omega)[chosen.u.astype(np.int64)]
    return replace(frames, log_w=log_w)


def _scaled_bessel(kappa: float) -> float:
    """I_0(kappa) exp(-kappa)."""
    return float(np.i0(kappa) * np.exp(-kappa))


def spread(ensemble: Ensemble) -> float:
    """Return the published unit of length in nm: the standard deviation of all centred coordinates, by weight."""
    x: NDArray[np.float64] = ensemble.positions.astype(np.float64)
    centred = x - x.mean(axis=1, keepdims=True)
    return float(np.sqrt(ensemble.weights @ (centred**2).mean(axis=(1, 2))))
