"""From the files of a simulation to a weighted ensemble with statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gibbsian.chem.system import System
from gibbsian.dynamics.exchange import ExchangeSettings, GroupState
from gibbsian.dynamics.ladder import Swaps, statistical_inefficiency
from gibbsian.dynamics.manifest import describe, refuse_other, settings_of
from gibbsian.dynamics.mbar import temperature_weights
from gibbsian.dynamics.shards import group_folder, read_checkpoint, read_shards
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.files import read_json
from gibbsian.units import kt


def load_simulation(folder: str | Path, system: System) -> Ensemble:
    """Weight whatever frames a simulation folder holds; see `simulate` for what is returned.

    Raises
    ------
    InputError
        If the folder is of another system, damaged, or has no frames yet.
    """
    path = Path(folder)
    manifest = read_json(path / "manifest.json")
    settings = settings_of(manifest)
    refuse_other(path, manifest, describe(system, settings))
    assert settings.temperatures is not None
    n_levels = len(settings.temperatures)
    parts, lineages, states, ladder = [], [], [], 0
    for index, size in enumerate(settings.group_sizes()):
        saved = read_checkpoint(group_folder(path, index), settings.seed, index, "cpu")
        if saved is None or saved[1] == 0:
            raise InputError(f"{path}: no frames of group {index} yet; continue the simulation")
        states.append(saved[0])
        parts.append(read_shards(group_folder(path, index), saved[1]))
        n_frames = parts[-1][1].shape[1]
        lineages.append(np.repeat(np.arange(ladder, ladder + size), n_levels * n_frames))
        ladder += size
    positions = np.concatenate([p.reshape(-1, *p.shape[2:]) for p, _, _ in parts])
    energy = np.concatenate([e.ravel() for _, e, _ in parts])
    counts = np.bincount(np.concatenate([lv.ravel() for _, _, lv in parts]), minlength=n_levels)
    betas = torch.tensor([1.0 / kt(t) for t in settings.temperatures], dtype=torch.float64)
    log_w, _ = temperature_weights(
        torch.from_numpy(energy), torch.from_numpy(counts), betas, 1.0 / kt(system.temperature)
    )
    statistics = _statistics(states, [(e, lv) for _, e, lv in parts], settings)
    return Ensemble(
        positions=positions,
        log_w=log_w.numpy(),
        topology=system.topology,
        temperature=system.temperature,
        u=energy / kt(system.temperature),
        lineage=np.concatenate(lineages),
        provenance={"method": "temperature replica exchange", **manifest, "statistics": statistics},
    )


def acceptance(swaps: list[Swaps]) -> tuple[float, list[float]]:
    """Return the share of exchanges accepted, over all pairs of neighbours and for each."""
    attempted = sum((s.attempted for s in swaps[1:]), swaps[0].attempted)
    accepted = sum((s.accepted for s in swaps[1:]), swaps[0].accepted)
    share = accepted / attempted.clamp_min(1)
    total = float(accepted.sum() / attempted.sum().clamp_min(1))
    return total, [round(float(a), 4) for a in share]


def _statistics(states: list[GroupState], parts: list[Any], settings: ExchangeSettings) -> dict[str, Any]:
    """Return the figures of a simulation; the inefficiency is that of U at the lowest temperature."""
    lowest = []
    for energy, level in parts:
        shape = (-1, len(settings.temperatures or ()), energy.shape[1])
        e, at = energy.reshape(shape), level.reshape(shape) == 0
        lowest.append((e * at).sum(1))
    n_frames = min(series.shape[1] for series in lowest)
    series = torch.from_numpy(np.concatenate([series[:, :n_frames] for series in lowest]))
    frame = settings.save_every * settings.timestep
    return {
        "acceptance": acceptance([s.swaps for s in states])[1],
        "round_trips": int(sum(s.swaps.round_trips.sum() for s in states)),
        "statistical_inefficiency_ps": round(statistical_inefficiency(series) * frame, 4),
        "resets": sum(s.resets for s in states),
        "walkers": settings.ladders * len(settings.temperatures or ()),
        "frames_per_walker": n_frames,
        "aggregate_ns": round(sum(s.step * s.swaps.walker_at.numel() for s in states) * settings.timestep / 1000, 4),
    }
