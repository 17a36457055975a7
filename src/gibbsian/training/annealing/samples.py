"""What a fit learns from: weighted draws of the flow, remembered ones, and frames of a simulation beside them.

Draws of the flow and frames of the Boltzmann distribution are one sample of their mixture,

    r = (n q + m p / Z) / (n + m),      log w = log p - log r,

so that either has what the other misses, and no weight is above (n + m) / m times the mean. Z solves <p / r> = Z,
which is the acceptance ratio of Bennett (J. Comput. Phys. 22, 245 (1976)).
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from gibbsian.chem.residues import Symmetry
from gibbsian.targets.extended import Extended
from gibbsian.training.annealing.settings import Annealing
from gibbsian.training.annealing.transport import Drawn
from gibbsian.training.annealing.weights import FINAL, Weighted, effective, weigh
from gibbsian.training.checkpoint import Run
from gibbsian.training.data import Frames, Source, draw_batch, enrich
from gibbsian.training.trainable import CHUNK, Trainable

LEAST_EFFECTIVE = 20.0
"""Draws that must be effective for p before frames join them; fewer do not tell Z."""
ITERATIONS, CLOSE = 1000, 1e-7
LARGEST_CORRECTION = 10.0


@torch.no_grad()
def join(
    drawn: Drawn,
    simulated: Source,
    groups: list[Symmetry],
    model: Trainable,
    target: Extended,
    generator: torch.Generator,
) -> tuple[Drawn, Weighted]:
    """Add frames to draws as one sample of the mixture, weighted for p; draws that do not tell log Z are worth 0.

    As many frames as a batch of `simulated` has, relabelled by the symmetries `groups`.
    """
    plain = weigh(drawn.log_q, drawn.log_p, FINAL)
    if effective(plain.log_w) < LEAST_EFFECTIVE:
        return drawn, replace(plain, ess=0.0)
    x = model.augment(draw_batch([simulated], groups, generator), generator)
    log_q = torch.cat([model.log_prob(part).double() for part in x.split(CHUNK)])
    log_q, log_p = torch.cat([drawn.log_q, log_q]), torch.cat([drawn.log_p, -target.u(x).double()])
    log_w = mixture_weights(log_q, log_p, len(drawn.x), plain.log_z)
    both = Drawn(torch.cat([drawn.x, x.float()]), log_q, log_p, log_w, drawn.calls + len(x))
    return both, replace(plain, log_w=log_w, ess=effective(log_w) / len(log_w))


def mixture_weights(log_q: Tensor, log_p: Tensor, n: int, log_z: float) -> Tensor:
    """Log weights (n + m,) for p of `n` draws of q and the others, of p, as draws of the mixture.

    `log_z` is where log Z is sought.
    """
    total = len(log_q)
    share_q, share_p = math.log(n / total), math.log(1 - n / total)

    def weights(log_z: float) -> Tensor:
        log_r = torch.logaddexp(share_q + log_q, share_p + log_p - log_z)
        return torch.where(torch.isfinite(log_p), log_p - log_r, -torch.inf)

    for _ in range(ITERATIONS):
        before, log_z = log_z, float(torch.logsumexp(weights(log_z), 0)) - math.log(total)
        if abs(log_z - before) < CLOSE:
            break
    return weights(log_z)


def learn_from(run: Run, drawn: Drawn, step: Weighted, settings: Annealing, rare_share: float) -> tuple[Frames, int]:
    """Return what the flow is fitted to, and of how many generations it is.

    Weights for p itself stay true when the flow has moved on, others do not.
    """
    annealed = settings.method == "fab"
    if not (annealed or step.powers.final):
        return enrich(Frames(drawn.x, step.log_w), run.model.topology, rare_share), 1
    run.buffer.add_weighted(drawn.x, step.log_w, drawn.log_q)
    run.buffer.keep_last(settings.memory)
    frames = Frames(*run.buffer.merged())
    if annealed:
        return frames, 1
    return enrich(frames, run.model.topology, rare_share), len(run.buffer.x)


def bounded(frames: Frames, most: float) -> Frames:
    """Lower the largest weights to a share of all; for fits only, weights of results stay as they are."""
    return replace(frames, log_w=torch.log_softmax(frames.log_w, 0).clamp_max(math.log(most)))


@torch.no_grad()
def refreshed(run: Run, source: Source, log_q: Tensor, n: int) -> Tensor:
    """Draw a batch whose weights for p^2 / q are those of the present flow: w q_old / q, bounded."""
    index = source.draw(run.generator)
    x = source.frames.x[index]
    correction = (log_q[index] - run.model.log_prob(x).double()).clamp_max(math.log(LARGEST_CORRECTION)).exp()
    chosen = torch.multinomial(torch.nan_to_num(correction) + 1e-30, n, replacement=True, generator=run.generator)
    return x[chosen]
