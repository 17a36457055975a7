"""The functions behind `gibbsian.fit` and `gibbsian.sample`."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gibbsian.chem.system import System
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.models.base import Proposal, SamplingProposal
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis
from gibbsian.threads import one_thread
from gibbsian.workflow.fitting import fit_flow
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.system import target_of

METHODS = ("snis",)


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
        return fit_flow(data, resolved, Path(scratch if folder is None else folder), target, report)


def sample(
    proposal: SamplingProposal,
    system: System,
    n: int = 10_000,
    method: str = "snis",
    folder: Path | str | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Ensemble:
    """Draw conformations of a system from a proposal, with weights to its Boltzmann distribution.

    Parameters
    ----------
    proposal, system
        What `gibbsian.fit` returned, and the molecule.
    n
        Conformations to draw.
    method
        ``snis``: self-normalised importance sampling.
    folder
        Where chunks go; the same call resumes, a larger `n` tops up. None keeps nothing.
    seed
        Of everything random.
    report
        Called after each chunk.

    Raises
    ------
    InputError
        For an unknown method or a proposal without a density.
    """
    if method not in METHODS:
        raise InputError(f"sample: method: got {method!r}; the methods are {', '.join(METHODS)}")
    with one_thread():
        return sample_snis(
            proposal,
            target_of(system),
            n,
            topology=system.topology,
            temperature=system.temperature,
            folder=None if folder is None else Path(folder),
            seed=seed,
            report=report,
        )
