"""From data to a trained flow, by the settings of a run."""

from pathlib import Path

import torch

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.models.registry import MODELS, Flow
from gibbsian.models.tarflow import TarFlow
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import stream
from gibbsian.targets.base import Target
from gibbsian.training.data import split
from gibbsian.training.loop import train
from gibbsian.workflow.settings import RunSettings

_CENTRE = 7
"""Key of the random stream that the law of the centre is fitted on."""


def fit_flow(
    data: Ensemble, settings: RunSettings, folder: Path, target: Target | None, report: Report = silent
) -> Flow:
    """Make a flow with the statistics of the training part of `data` and train it, resuming from `folder`.

    Raises
    ------
    InputError
        If the data are too few, or a stage needs a target that is missing.
    """
    training, _ = split(data, settings.training.held_out, settings.training.seed)
    flow: Flow = MODELS[settings.proposal].model.from_data(
        data.topology,
        torch.from_numpy(training.positions),
        torch.from_numpy(training.log_w),
        settings.model,
        settings.seed,
    )
    flow = train(flow, data, settings.stages, settings.training, folder, report, target)
    if isinstance(flow, TarFlow):
        flow.fit_centre(stream(settings.seed, _CENTRE))
    return flow
