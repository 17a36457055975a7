"""The functions behind `gibbsian.fit` and `gibbsian.sample`."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gibbsian.chem.system import System
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.models.base import Proposal, SamplingProposal
from gibbsian.progress import Report, silent
from gibbsian.sampling import temperatures as scanning
from gibbsian.sampling.temperatures import ProposalOfTemperatures
from gibbsian.threads import one_thread
from gibbsian.workflow.drawing import MethodSettings, draw
from gibbsian.workflow.fitting import fit_flow
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.system import target_of


def fit(
    system: System,
    data: Ensemble,
    recipe: str = "spline",
    folder: Path | str | None = None,
    seed: int = 0,
    report: Report = silent,
    settings: Mapping[str, Any] | None = None,
) -> Proposal:
    """Train the proposal of a recipe on weighted data of a system.

    Parameters
    ----------
    system, data
        The molecule and frames of it, as `gibbsian.simulate` returns them.
    recipe
        Name of a shipped recipe.
    folder
        Where checkpoints go; the same call on the same folder resumes. None keeps nothing.
    seed
        Of everything random.
    report
        Called after each checkpoint.
    settings
        Sections ``model``, ``stages`` and ``training`` of a run.yaml that replace the recipe's.

    Raises
    ------
    InputError
        For an unknown recipe or setting, or unusable data.
    """
    given = {"recipe": recipe, "seed": seed, "system": {"source": system.sequence}, **(settings or {})}
    resolved = resolve_settings(given, "fit")
    target = target_of(system)
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        place = Path(scratch if folder is None else folder)
        return fit_flow(data, resolved, place, target, report, structure=system.positions)


def sample(
    proposal: SamplingProposal,
    system: System,
    n: int = 10_000,
    method: str = "snis",
    folder: Path | str | None = None,
    seed: int = 0,
    report: Report = silent,
    settings: MethodSettings | Mapping[str, Any] | None = None,
) -> Ensemble:
    """Draw conformations of a system from a proposal, with weights to its Boltzmann distribution.

    Parameters
    ----------
    proposal, system
        What `gibbsian.fit` returned, and the molecule.
    n
        Conformations to draw.
    method
        ``snis``: self-normalised importance sampling. ``smc``: annealed sequential Monte Carlo, which moves the draws
        towards the target. ``exchange``: replica exchange with the draws as moves, whose samples have equal weights
        and are exact however few of the draws are of use. ``langevin``: the draws are moved with the forces of the
        molecule alone, and their paths weighted.
    folder
        Where chunks go; the same call resumes, a larger `n` tops up (except for ``smc``). None keeps nothing.
    seed
        Of everything random.
    report
        Called after each chunk.
    settings
        Of the method, as an object or as plain data: `gibbsian.sampling.truncation.Truncation` for ``snis``,
        `gibbsian.sampling.smc_state.SmcSettings`, `gibbsian.sampling.swap.SwapSettings`, or
        `gibbsian.sampling.langevin_paths.LangevinSettings`.

    Raises
    ------
    InputError
        For an unknown method, settings that it does not have, or a proposal without a density.
    """
    with one_thread():
        return draw(
            proposal,
            target_of(system),
            n,
            method=method,
            settings=settings,
            topology=system.topology,
            temperature=system.temperature,
            folder=None if folder is None else Path(folder),
            seed=seed,
            report=report,
        )


def temperature_scan(
    proposal: ProposalOfTemperatures,
    system: System,
    temperatures: Sequence[float],
    n: int = 10_000,
    folder: Path | str | None = None,
    seed: int = 0,
    report: Report = silent,
) -> list[Ensemble]:
    """Draw conformations of a system at each of several temperatures from one proposal, with exact weights at each.

    Parameters
    ----------
    proposal, system
        What `gibbsian.fit` returned for the recipe ``thermal``, and the molecule.
    temperatures
        K, among those that the proposal holds.
    n, folder, seed, report
        As in `sample`; `n` is that of each temperature.

    Raises
    ------
    InputError
        If the proposal does not hold one of the temperatures.
    """
    with one_thread():
        return scanning.temperature_scan(
            proposal,
            target_of(system),
            temperatures,
            n,
            topology=system.topology,
            folder=None if folder is None else Path(folder),
            seed=seed,
            report=report,
        )
