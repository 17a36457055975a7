"""Random streams of a training run, beside the one generator that draws its batches.

Each belongs to a purpose and a place in the run, so that nothing depends on what was drawn before, by which process, or
in which attempt.
"""

import torch

from gibbsian.sampling.importance import stream

NOISE, HELD_OUT, OWN, ENERGIES, GUARD = 1, 2, 3, 4, 5
"""Noise of the objective, of its held-out value; own samples for refit, for energies, to compare two models."""


def seed_of(seed: int, purpose: int, place: int = 0, part: int = 0) -> int:
    """Return the seed of one stream; `place` and `part` count within a purpose."""
    return stream(seed, place, part, purpose)


def generator_of(seed: int, purpose: int, place: int = 0, part: int = 0) -> torch.Generator:
    """Return a generator at the start of one stream."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, place, part))
