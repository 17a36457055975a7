"""A group's files: walker-major shards of frames, and the checkpoint that says which of them count.

A chunk of work is on disk once its checkpoint is: shards are written first, and shards that no checkpoint
knows are overwritten. A process killed at any moment therefore continues with the bits that it would have
had.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from gibbsian.dynamics.exchange import Frames, GroupState, generators
from gibbsian.dynamics.ladder import Swaps
from gibbsian.errors import InputError
from gibbsian.files import write_array, write_bytes
from gibbsian.potentials.base import LangevinState

_MOTION = ("x", "v", "energy", "force")
_SWAPS = ("walker_at", "attempted", "accepted", "came_from", "round_trips")


def group_folder(folder: Path, index: int) -> Path:
    """Return where group `index` keeps its files."""
    return folder / f"group-{index:03d}"


def write_chunk(folder: Path, state: GroupState, frames: Frames, n_shards: int) -> int:
    """Write the frames as shard `n_shards`, then the checkpoint; return how many shards count now."""
    folder.mkdir(parents=True, exist_ok=True)
    if frames.energy.shape[1]:
        write_array(folder / f"positions-{n_shards:05d}.npy", frames.positions.numpy())
        write_array(folder / f"energies-{n_shards:05d}.npy", frames.energy.numpy())
        write_array(folder / f"levels-{n_shards:05d}.npy", frames.level.numpy().astype(np.int16))
        n_shards += 1
    tensors = {name: getattr(state.motion, name) for name in _MOTION}
    tensors |= {name: getattr(state.swaps, name) for name in _SWAPS}
    tensors |= {"good_x": state.good_x, "noise": state.noise.get_state(), "choice": state.choice.get_state()}
    counters = {"step": state.step, "resets": state.resets, "shards": n_shards}
    content = save({k: t.cpu().contiguous() for k, t in tensors.items()}, {"counters": json.dumps(counters)})
    write_bytes(folder / "checkpoint.safetensors", content)
    return n_shards


def read_checkpoint(folder: Path, seed: int, index: int, device: str) -> tuple[GroupState, int] | None:
    """Read the state and its number of shards; None where nothing was saved yet.

    Raises
    ------
    InputError
        If the checkpoint is damaged.
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            counters = json.loads(file.metadata()["counters"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        noise, choice = generators(seed, index, device)
        noise.set_state(tensors["noise"])
        choice.set_state(tensors["choice"])
        state = GroupState(
            motion=LangevinState(**{name: tensors[name].to(device) for name in _MOTION}),
            good_x=tensors["good_x"].to(device),
            swaps=Swaps(**{name: tensors[name] for name in _SWAPS}),
            step=counters["step"],
            resets=counters["resets"],
            noise=noise,
            choice=choice,
        )
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: damaged checkpoint ({error}); delete {folder} to simulate it anew") from error
    return state, counters["shards"]


def read_shards(folder: Path, n_shards: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
    """Positions (W, F, N, 3) nm, energies (W, F) kJ/mol and temperature levels (W, F) of one group."""
    parts = []
    for name in ("positions", "energies", "levels"):
        try:
            shards = [
                np.load(folder / f"{name}-{i:05d}.npy", mmap_mode="r", allow_pickle=False) for i in range(n_shards)
            ]
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: damaged shard ({error}); delete the folder to simulate it anew") from error
        parts.append(np.concatenate(shards, axis=1))
    return parts[0], parts[1], parts[2]
