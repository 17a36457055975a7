"""The ensembles of many temperatures from one proposal that holds them all, by importance sampling at each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.base import Proposal
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis, stream
from gibbsian.targets.base import Target


class ProposalOfTemperatures(Protocol):
    """A proposal that holds a range of temperatures."""

    def at(self, temperature: float) -> Proposal:
        """Return the proposal at one of them (K)."""
        ...


class TargetOfTemperatures(Protocol):
    """A Boltzmann distribution that knows its potential."""

    def at(self, temperature: float) -> Target:
        """Return that of another temperature (K)."""
        ...


def temperature_scan(
    proposal: ProposalOfTemperatures,
    target: TargetOfTemperatures,
    temperatures: Sequence[float],
    n: int,
    *,
    topology: Topology,
    folder: Path | None = None,
    seed: int = 0,
    chunk: int = 1000,
    report: Report = silent,
) -> list[Ensemble]:
    """Draw `n` samples with exact weights at each temperature; nothing is trained.

    The ensembles are independent of each other: each has its own draws, energies, log Z and errors.

    Parameters
    ----------
    proposal, target
        What to draw from, and the Boltzmann distribution; either goes to any temperature.
    temperatures
        K, in any order.
    folder
        Where chunks are kept for resuming and topping up, a folder for each temperature; None keeps nothing.
    seed, chunk, report
        As in `gibbsian.sampling.importance.sample_snis`; the report counts the samples of all temperatures.

    Returns
    -------
    list of Ensemble
        In the order of `temperatures`.

    Raises
    ------
    InputError
        For no or repeated temperatures, or one that the proposal does not hold.
    """
    if not temperatures or len(set(temperatures)) < len(temperatures):
        raise InputError(f"temperature scan: got {list(temperatures)}; give at least one, each once, in K")
    pairs = [(proposal.at(t), target.at(t)) for t in temperatures]
    return [
        sample_snis(
            *pair,
            n,
            topology=topology,
            temperature=t,
            folder=None if folder is None else folder / name_of(t),
            seed=stream(seed, k),
            chunk=chunk,
            report=_counting(report, k * n, len(temperatures) * n),
        )
        for k, (t, pair) in enumerate(zip(temperatures, pairs, strict=True))
    ]


def name_of(temperature: float) -> str:
    """Name of the folder of a temperature (K)."""
    return f"{temperature:g}K"


def _counting(report: Report, before: int, whole: int) -> Report:
    def counted(done: float, total: float, /, **figures: float | str) -> None:
        report(before + done, whole, **figures)

    return counted
