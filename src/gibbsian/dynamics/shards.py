"""A group's files: walker-major shards of frames, and the checkpoint that says which of them count.

A chunk of work is on disk once its checkpoint is: shards are written first, and shards that no checkpoint
knows are overwritten. A process killed at any moment therefore continues with the bits that it would have
had.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gibbsian.dynamics.exchange import Frames, GroupState, generators
from gibbsian.dynamics.ladder import Swaps
from gibbsian.errors import InputError
from gibbsian.files import make_folder, write_array, write_bytes
from gibbsian.potentials.base import LangevinState

MOTION = ("x", "v", "energy", "force")
"""Tensors of a checkpoint that are the motion."""
_SWAPS = ("walker_at", "attempted", "accepted", "came_from", "round_trips")
_CHECKPOINT = "checkpoint.safetensors"


def group_folder(folder: Path, index: int) -> Path:
    """Return where group `index` keeps its files."""
    return folder / f"group-{index:03d}"


def write_chunk(folder: Path, state: GroupState, frames: Frames, n_shards: int) -> int:
    """Write the frames as shard `n_shards`, then the checkpoint; return how many shards count now."""
    arrays = {
        "positions": frames.positions.numpy(),
        "energies": frames.energy.numpy(),
        "levels": frames.level.numpy().astype(np.int16),
    }
    tensors = {name: getattr(state.motion, name) for name in MOTION}
    tensors |= {name: getattr(state.swaps, name) for name in _SWAPS}
    tensors |= {"good_x": state.good_x, "noise": state.noise.get_state(), "choice": state.choice.get_state()}
    return save_chunk(folder, tensors, {"step": state.step, "resets": state.resets}, arrays, n_shards)


def save_chunk(
    folder: Path,
    tensors: dict[str, Tensor],
    counters: dict[str, int],
    arrays: dict[str, NDArray[Any]],
    n_shards: int,
) -> int:
    """Write `arrays` (walkers, frames, ...), if they have frames, then a checkpoint of tensors and counters.

    Returns how many shards count now, which the checkpoint also has, as ``shards``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if next(iter(arrays.values())).shape[1]:
        for name, array in arrays.items():
            write_array(folder / f"{name}-{n_shards:05d}.npy", array)
        n_shards += 1
    content = save(
        {k: t.cpu().contiguous() for k, t in tensors.items()},
        {"counters": json.dumps({**counters, "shards": n_shards})},
    )
    write_bytes(folder / _CHECKPOINT, content)
    return n_shards


def read_checkpoint(folder: Path, seed: int, index: int, device: str) -> tuple[GroupState, int] | None:
    """Read the state and its number of shards; None where nothing was saved yet.

    Raises
    ------
    InputError
        If the checkpoint is damaged.
    """
    with opened_checkpoint(folder) as saved:
        if saved is None:
            return None
        tensors, counters = saved
        noise, choice = generators(seed, index, device)
        noise.set_state(tensors["noise"])
        choice.set_state(tensors["choice"])
        state = GroupState(
            motion=motion_of(tensors, device),
            good_x=tensors["good_x"].to(device),
            swaps=Swaps(**{name: tensors[name] for name in _SWAPS}),
            step=counters["step"],
            resets=counters["resets"],
            noise=noise,
            choice=choice,
        )
        return state, counters["shards"]


@contextmanager
def opened_checkpoint(folder: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, int]] | None]:
    """Tensors and counters of a checkpoint, None where there is none; errors of reading and of use name the file.

    Raises
    ------
    InputError
        If the checkpoint is damaged.
    """
    path = folder / _CHECKPOINT
    if not path.exists():
        yield None
        return
    try:
        with safe_open(path, framework="pt") as file:
            counters = json.loads(file.metadata()["counters"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        yield tensors, counters
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: damaged checkpoint ({error}); delete {folder} to simulate it anew") from error


def motion_of(tensors: dict[str, Tensor], device: str) -> LangevinState:
    """Return the motion in a checkpoint."""
    return LangevinState(**{name: tensors[name].to(device) for name in MOTION})


def next_checkpoint(step: int, equilibration: int, chunk: int) -> int:
    """Checkpoints follow a fixed grid of `chunk` steps, with one at the end of equilibration."""
    if step < equilibration:
        return min(step + chunk, equilibration)
    return equilibration + ((step - equilibration) // chunk + 1) * chunk


@contextmanager
def existing(folder: str | Path) -> Iterator[str]:
    """Make a folder for a simulation, if there is none.

    Raises
    ------
    InputError
        If that is impossible.
    """
    make_folder(Path(folder))
    yield str(folder)


def read_shards(
    folder: Path, n_shards: int, first: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
    """Positions (W, F, N, 3) nm, energies (W, F) kJ/mol and temperature levels (W, F) of one group."""
    names = ("positions", "energies", "levels")
    positions, energies, levels = (read_array(folder, name, n_shards, first) for name in names)
    return positions, energies, levels


def read_array(folder: Path, name: str, n_shards: int, first: int = 0) -> NDArray[Any]:
    """One array (walkers, frames, ...) of `n_shards` shards from number `first` on.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    numbers = range(first, first + n_shards)
    try:
        shards = [np.load(folder / f"{name}-{i:05d}.npy", mmap_mode="r", allow_pickle=False) for i in numbers]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: damaged shard ({error}); delete the folder to simulate it anew") from error
    return np.concatenate(shards, axis=1)
