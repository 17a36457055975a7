"""The temperatures that a flow of a whole range learns at: each has its own weights of the same frames.

Every batch holds all of them in equal parts. That is the mean over temperatures drawn uniformly in 1/T with their noise
left out; between the rungs the flow interpolates.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.temperatures import log_weights_at
from gibbsian.ensemble.weights import ess
from gibbsian.errors import InputError
from gibbsian.training.buffer import Buffer
from gibbsian.training.data import Frames, Source, frames_of
from gibbsian.training.stages import Stage
from gibbsian.training.trainable import Trainable

RUNGS = 8
LEAST_EFFECTIVE, LEAST_SHARE = 200, 0.05
"""Effective frames that each rung needs, or with fewer data this share of them."""


def rungs_of(model: Trainable) -> tuple[float, ...]:
    """Temperatures (K) to learn at, evenly spaced in 1/T; none for a model that knows a single one."""
    limits = getattr(model.config, "temperatures", None)
    if limits is None:
        return ()
    inverse = np.linspace(1.0 / limits[0], 1.0 / limits[1], RUNGS)
    return tuple(float(t) for t in 1.0 / inverse)


def frames_at(data: Ensemble, rungs: Sequence[float]) -> list[Frames]:
    """Return the frames with their weights for each rung; as they are without rungs.

    Raises
    ------
    InputError
        If the data have no energies, or too few frames that matter at a rung.
    """
    if not rungs:
        return [frames_of(data)]
    found = []
    for temperature in rungs:
        log_w = log_weights_at(data, temperature)
        if ess(log_w) < min(LEAST_EFFECTIVE, LEAST_SHARE * len(data)):
            raise InputError(
                f"training data: {ess(log_w):.0f} effective frames at {temperature:.0f} K; simulate up to the highest "
                "of model.temperatures, or narrow these"
            )
        found.append(Frames(torch.from_numpy(data.positions), torch.from_numpy(log_w), temperature))
    return found


def share_of(stage: Stage, k: int, n: int) -> Stage:
    """Return the stage with the part of its batch that belongs to rung `k` of `n`."""
    return replace(stage, batch=stage.batch * (k + 1) // n - stage.batch * k // n)


def generations_of(buffer: Buffer, k: int, n: int) -> Buffer:
    """Own samples of rung `k` of `n`; the rungs follow each other in the buffer."""
    columns = (buffer.x, buffer.log_w, buffer.log_q, buffer.log_size)
    return Buffer(*(column[k::n] for column in columns))


def temperatures_of(sources: Sequence[Source]) -> Tensor | None:
    """Temperature (B,) of each row of a batch drawn from these sources; None where they have none."""
    known = [t for source in sources if (t := source.frames.temperature) is not None]
    if len(known) < len(sources):
        return None
    return torch.tensor(known, dtype=torch.float64).repeat_interleave(torch.tensor([source.n for source in sources]))
