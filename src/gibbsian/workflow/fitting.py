"""From data to a trained flow, by the settings of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.coords.prior import draw_prior
from gibbsian.dynamics.stream import Stream
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.temperatures import log_weights_at
from gibbsian.errors import InputError
from gibbsian.models.registry import MODELS, Flow
from gibbsian.models.tarflow import TarFlow
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import stream
from gibbsian.targets.base import Target
from gibbsian.training.annealing.annealer import anneal
from gibbsian.training.data import frames_of, split
from gibbsian.training.feed import Feed
from gibbsian.training.loop import train
from gibbsian.workflow.settings import RunSettings

_CENTRE, _PRIOR = 7, 8
"""Keys of the random streams that the law of the centre and the prior are drawn from."""
ANNEALING = "annealing"
"""Folder of an annealing within that of the training."""
PRIOR_FRAMES = 50_000


def fit_flow(
    data: Ensemble,
    settings: RunSettings,
    folder: Path,
    target: Target | None,
    report: Report = silent,
    *,
    structure: NDArray[np.floating] | None = None,
    arriving: Stream | None = None,
) -> Flow:
    """Make a flow with the statistics of the training part of `data`, train it, and anneal it, resuming from `folder`.

    Parameters
    ----------
    structure
        (n_atoms, 3) nm, for an annealing that starts from the prior about it and not from data.
    arriving
        Continuation of the simulation that `data` come from, for settings with a stream.

    Raises
    ------
    InputError
        If the data are too few, or a stage needs a target, structure or continuation that is missing.
    """
    check_reference(settings, data.temperature)
    simulated, data = data, _at_start(data, settings)
    flow: Flow = MODELS[settings.proposal].model.from_data(
        data.topology, *_statistics(data, settings, structure), settings.model, settings.seed
    )
    if settings.stages:
        feed = _feed(data, settings, arriving)
        flow = train(flow, data, settings.stages, settings.training, folder, report, target, feed)
    if settings.annealing is not None:
        if target is None:
            raise InputError("annealing: needs a target; give one")
        place = folder / ANNEALING
        frames = None
        if settings.annealing.frames > 0:
            frames = frames_of(split(simulated, settings.training.held_out, settings.training.seed)[0])
        flow = anneal(flow, target, data.temperature, settings.annealing, settings.training, place, report, frames)
    if isinstance(flow, TarFlow):
        flow.fit_centre(stream(settings.seed, _CENTRE))
    return flow


def check_reference(settings: RunSettings, temperature: float) -> None:
    """Refuse a model whose reference is not the temperature (K) of the system.

    Raises
    ------
    InputError
        Naming both.
    """
    held = getattr(settings.model, "temperatures", None)
    if held is not None and abs(held[0] - temperature) > 1e-6 * temperature:
        raise InputError(
            f"model.temperatures: begins at {held[0]:g} K, the system is at {temperature:g} K; let them be the same"
        )


def _feed(data: Ensemble, settings: RunSettings, arriving: Stream | None) -> Feed | None:
    if settings.stream is None:
        return None
    if arriving is None:
        raise InputError("stream: needs a simulation that goes on; use `gibbsian run`, or leave it out")
    hot = settings.annealing and settings.annealing.start_temperature
    return Feed(arriving, settings.stream, data, settings.stages, settings.training, hot or None)


def _at_start(data: Ensemble, settings: RunSettings) -> Ensemble:
    """Return the data, weighted for the temperature that an annealing starts from."""
    hot = settings.annealing and settings.annealing.start_temperature
    if not hot:
        return data
    if data.u is None:
        raise InputError("annealing: start_temperature needs data with energies; leave it out")
    return replace(data, log_w=log_weights_at(data, hot))


def _statistics(
    data: Ensemble, settings: RunSettings, structure: NDArray[np.floating] | None
) -> tuple[Tensor, Tensor | None]:
    """Return conformations and log weights that the fixed parts of a flow are taken from."""
    if settings.stages:
        training, _ = split(data, settings.training.held_out, settings.training.seed)
        return torch.from_numpy(training.positions), torch.from_numpy(training.log_w)
    if structure is None:
        raise InputError("annealing: to start without stages needs a structure; give one, or stages")
    generator = torch.Generator().manual_seed(stream(settings.seed, _PRIOR))
    start = torch.from_numpy(np.asarray(structure, dtype=np.float64))
    return draw_prior(data.topology, start, data.temperature, PRIOR_FRAMES, generator), None
