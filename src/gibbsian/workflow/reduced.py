"""What a run with a split flow says of its reduced coordinates."""

from typing import Any

import numpy as np
import torch

from gibbsian.chem.system import System
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.reconstruction import reconstruction
from gibbsian.evaluate.results import plain
from gibbsian.models.split_flow import SplitFlow
from gibbsian.potentials import potential

FRAMES = 200
"""Held-out frames that are rebuilt."""


def reduced(flow: SplitFlow, held_out: Ensemble, system: System) -> dict[str, Any] | None:
    """Rebuild held-out frames with the frozen coordinates of the flow's slice; None of fewer than two frames.

    Returns
    -------
    dict
        See `gibbsian.evaluate.reconstruction.Reconstruction`.
    """
    if len(held_out) < 2:
        return None
    spaced = np.linspace(0, len(held_out) - 1, min(FRAMES, len(held_out))).astype(np.int64)
    x = torch.from_numpy(held_out.positions[spaced]).double()
    found = reconstruction(flow.coordinates, x, flow.c0, potential(system), system.temperature)
    return plain(found.as_record())
