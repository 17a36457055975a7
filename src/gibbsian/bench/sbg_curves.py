"""Curves of the table `sbg`: what a proposal is worth against what its training has cost."""

from typing import Any

import numpy as np
import torch

from gibbsian.bench.rows import Metric
from gibbsian.bench.sbg_training import Fitted, flow_at, held_out, snapshots
from gibbsian.bench.sbg_work import Desk, reference
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.models.registry import Flow
from gibbsian.progress import Report, silent
from gibbsian.sampling.forward import forward_ess
from gibbsian.sampling.importance import sample_snis
from gibbsian.threads import one_thread

FRAMES = 2_000
"""Unseen frames for likelihoods and forward effective sizes."""


def curve(desk: Desk, fitted: Fitted, n: int, report: Report = silent) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Effective size of `n` draws and likelihood of unseen frames at each snapshot of a training.

    Returns
    -------
    Metrics ``ess_fraction``, ``nll``, ``forward_ess_fraction`` of each ``step STEP``, with its ``core_seconds`` of
    training alone, and the last ones under their own names; notes.
    """
    unseen = unseen_frames(desk, fitted, report)
    metrics: dict[str, Metric] = {}
    points = snapshots(fitted.folder)
    last: dict[str, Metric] = {}
    for done, (step, cost, path) in enumerate(points, start=1):
        flow = flow_at(fitted, path)
        with one_thread():
            ensemble = sample_snis(
                flow,
                desk.target(),
                n,
                topology=desk.system.topology,
                temperature=desk.system.temperature,
                chunk=min(1000, n),
            )
            forward = forward_ess(flow, desk.target(), unseen)
        last = {
            "core_seconds_training": Metric(cost),
            "ess_fraction": Metric(ensemble.ess / n),
            "k_hat": Metric(ensemble.k_hat),
            "forward_ess_fraction": Metric(forward.fraction),
            "nll": shape_nll(flow, unseen),
        }
        metrics |= {f"step {step}: {name}": metric for name, metric in last.items()}
        report(done, len(points), ess=ensemble.ess / n)
    return metrics | last, {"draws": n, "unseen_frames": len(unseen), "steps": [step for step, _, _ in points]}


def unseen_frames(desk: Desk, fitted: Fitted, report: Report = silent) -> Ensemble:
    """Return frames of the independent reference, few where a density is dear."""
    return held_out(desk, fitted, reference(desk, report), min(FRAMES, *(fitted.recipe.draws or (FRAMES,))))


@torch.no_grad()
def shape_nll(flow: Flow, unseen: Ensemble) -> Metric:
    """Mean of -log q + log_gauge (nats) over unseen frames with its standard error.

    That of the conformations without their centre of mass, in the mean-free measure: comparable over all gauges.
    """
    x = torch.from_numpy(unseen.positions).double()
    values = torch.cat([flow.log_gauge(part).double() - flow.log_prob(part).double() for part in x.split(1000)])
    found = values.numpy()
    return Metric(float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found))))
