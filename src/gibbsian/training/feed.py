"""Training frames that grow at fixed steps: the portions of a simulation that goes on meanwhile.

After every so many steps the next portion joins the frames that batches are drawn from. Which frames these are thus
depends on the step alone, not on the speed of the simulation.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian.dynamics.mbar import log_mixture, temperature_weights
from gibbsian.dynamics.stream import Portion, Stream
from gibbsian.ensemble.basins import basin_masks
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.training.data import LEAST_LINEAGES, Frames, raise_rare, split
from gibbsian.training.rungs import frames_at
from gibbsian.training.stages import Stage, TrainSettings
from gibbsian.units import kt

AHEAD = 4
"""Portions that the simulation may be ahead of the training."""
MOST_BYTES = 2**30
"""Size of the positions in the window, where no window is given."""
SOLVED = 50_000
"""Energies that free energies of the temperatures are computed from; more would not be felt in the weights."""


@dataclass(frozen=True)
class Streaming:
    """How frames of a simulation that goes on arrive in a training.

    Attributes
    ----------
    every
        Training steps from one portion to the next; a stage that ends early does not count the steps that it left out.
    frames
        New frames of each walker in a portion, `data.save_every` steps apart.
    window
        Portions that batches are drawn from, the latest, where the data that the training began with count as the
        first; None takes as many as 1 GiB holds.
    """

    every: int = 100
    frames: int = 100
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "frames", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"stream: {name}: got {value}; give a positive number")


@dataclass(frozen=True, eq=False)
class _Part:
    """Training frames of a portion: positions, energies (kJ/mol), and basins."""

    x: NDArray[np.float32]
    energy: NDArray[np.float64]
    masks: dict[str, NDArray[np.bool_]]


class Feed:
    """The frames to draw from, as they grow.

    Parameters
    ----------
    stream
        The simulation, which continues the one that `data` come from.
    settings, stages, training
        When portions arrive and how many can; held-out share and seed, least share of a basin.
    data
        Frames that the training begins with, of all temperatures; ladders held out of them stay out for good.
    temperature
        What frames are weighted for, K; None takes that of the data.

    Raises
    ------
    InputError
        If there are too few ladders to hold whole ones out.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Streaming,
        data: Ensemble,
        stages: Sequence[Stage],
        training: TrainSettings,
        temperature: float | None = None,
    ) -> None:
        if data.lineage is None or data.u is None or len(np.unique(data.lineage)) < LEAST_LINEAGES:
            raise InputError(
                f"stream: fewer than {LEAST_LINEAGES} ladders, too few to hold whole ones out; raise data.ladders"
            )
        self._stream, self._settings = stream, settings
        self._topology, self._temperature, self._share = data.topology, data.temperature, training.rare_share
        self._beta = 1.0 / kt(temperature or data.temperature)
        steps = sum(stage.steps * stage.refit_rounds for stage in stages)
        self._most = (steps - 1) // settings.every
        self._taken = 0
        unseen = split(data, training.held_out, training.seed)[1].lineage
        assert unseen is not None
        self._unseen = np.unique(unseen)
        self._energies: list[NDArray[np.float64]] = []
        self._parts: list[_Part] = []
        self._add(Portion(data.positions, data.u * kt(data.temperature), data.lineage))

    @property
    def key(self) -> dict[str, Any]:
        """What decides the frames, beside the data that the training began with."""
        return asdict(self._settings) | {"simulation": asdict(self._stream.settings), "beta": self._beta}

    def due(self, steps: int) -> int:
        """Return how many portions are in use after so many training steps; these and the next ones get made."""
        n = min(steps // self._settings.every, self._most)
        self._stream.order(min(n + AHEAD, self._most))
        return n

    def frames(self, n: int, rungs: Sequence[float], waiting: Callable[[], None]) -> list[Frames]:
        """Return what batches are drawn from with `n` portions, not fewer than before, rare basins raised.

        Parameters
        ----------
        n
            Portions, which are waited for.
        rungs
            As for `frames_at`, which says what is returned.
        waiting
            Called now and then while waiting; it may raise.
        """
        for k in range(self._taken, n):
            self._add(self._stream.take(k, waiting))
            self._taken = k + 1
        x = np.concatenate([part.x for part in self._parts])
        energy = np.concatenate([part.energy for part in self._parts])
        masks = {name: np.concatenate([part.masks[name] for part in self._parts]) for name in self._parts[0].masks}
        u = energy / kt(self._temperature)
        window = Ensemble(x, self._log_weights(energy), self._topology, self._temperature, u)
        return [raise_rare(at, masks, self._share) for at in frames_at(window, rungs)]

    def _add(self, portion: Portion) -> None:
        """Take a portion in, without the ladders held out, and forget what has left the window."""
        seen = ~np.isin(portion.lineage, self._unseen)
        x = portion.positions[seen]
        self._energies.append(portion.energy)
        self._parts.append(_Part(x, portion.energy[seen], basin_masks(self._topology, x)))
        window = self._settings.window or max(1, MOST_BYTES // x.nbytes)
        del self._parts[:-window]

    def _log_weights(self, energy: NDArray[np.float64]) -> NDArray[np.float64]:
        """MBAR log weights of frames, with free energies from all frames that have arrived, in the window or not.

        Each ladder has one walker at every temperature, so that each temperature has the same number of frames.
        """
        known = np.concatenate(self._energies)
        sample = torch.from_numpy(known[:: -(-len(known) // SOLVED)])
        temperatures = self._stream.settings.temperatures or ()
        betas = torch.tensor([1.0 / kt(t) for t in temperatures], dtype=torch.float64)
        counts = torch.full_like(betas, len(sample) / len(betas))
        _, f = temperature_weights(sample, counts, betas, self._beta)
        some = torch.from_numpy(energy)
        return (-self._beta * some - log_mixture(betas * some[:, None], counts, f)).numpy()
