"""From the files of umbrella windows to an unbiased ensemble with statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.chem.system import System
from gibbsian.dynamics.ladder import statistical_inefficiency
from gibbsian.dynamics.mbar import free_energies, log_mixture
from gibbsian.dynamics.shards import opened_checkpoint, read_array
from gibbsian.dynamics.windows import Windows, wrapped
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.geometry import dihedral
from gibbsian.errors import GibbsianError, InputError
from gibbsian.units import kt

Floats = NDArray[np.float64]
_LARGEST, _ROUGH = 20_000_000, 1_000_000
"""Elements of a matrix of bias energies from which all, and first guesses, of free energies are made."""
_SMALLEST_GAP = 1e-6


def load_umbrella(folder: Path, manifest: dict[str, Any], system: System, windows: Windows) -> Ensemble:
    """Weight whatever frames an umbrella folder holds.

    MBAR is solved for each copy on its own. Statistics in the provenance: ``free_energies``, those of the windows in
    kT, averaged over the copies, and their errors; ``smallest_neighbour_overlap`` and ``overlap_gap``, of the
    MBAR overlap matrix O_ij = sum_n W_ni N_j W_nj the smallest element between neighbours and 1 minus the
    second eigenvalue; ``statistical_inefficiency_ps``, of the biased torsions' deviations, the median over windows
    and the largest.

    Raises
    ------
    InputError
        If files are damaged or there are no frames yet.
    """
    with opened_checkpoint(folder) as saved:
        shards = 0 if saved is None else saved[1]["shards"]
        counters = {} if saved is None else saved[1]
    if not shards:
        raise InputError(f"{folder}: no frames yet; continue the simulation")
    positions, energies = read_array(folder, "positions", shards), read_array(folder, "energies", shards)
    walkers, n_frames = energies.shape
    n_windows = len(windows.centres)
    copies = walkers // n_windows
    positions = positions.reshape(-1, *positions.shape[2:])
    angles = dihedral(positions, windows.atoms).reshape(copies, n_windows, n_frames, -1)
    log_w, f, overlap = umbrella_weights(angles, windows, kt(system.temperature))
    settings = manifest["settings"]
    frame = settings["save_every"] * settings["timestep"]
    statistics = {
        **_free_energy_statistics(f),
        **_overlap_statistics(overlap, windows),
        "statistical_inefficiency_ps": _inefficiency(angles, windows, frame),
        "resets": counters["resets"],
        "walkers": walkers,
        "frames_per_walker": n_frames,
        "aggregate_ns": round(counters["step"] * walkers * settings["timestep"] / 1000, 4),
    }
    return Ensemble(
        positions=positions,
        log_w=log_w.ravel(),
        topology=system.topology,
        temperature=system.temperature,
        u=energies.ravel() / kt(system.temperature),
        lineage=np.repeat(np.arange(copies), n_windows * n_frames),
        provenance={**manifest, "statistics": statistics},
    )


def umbrella_weights(angles: Floats, windows: Windows, thermal: float) -> tuple[Floats, Floats, Floats]:
    """MBAR weights of biased frames towards the unbiased ensemble, for each copy on its own.

    The potential energy is the same in all windows, so the reduced energies are those of the bias alone, and
    ln w_n = -ln sum_k N_k exp(f_k - bias_kn / kT).

    Parameters
    ----------
    angles
        (copies, K, frames, d) rad.
    thermal
        kT, kJ/mol.

    Returns
    -------
    log_w (copies, K * frames) that sum to 1 / copies in each copy, free energies (copies, K) in kT relative to the
    first window, and the overlap matrix (K, K), averaged over copies.

    Raises
    ------
    GibbsianError
        If windows do not overlap.
    """
    copies, n_windows, n_frames, _ = angles.shape
    flat = angles.reshape(copies, n_windows * n_frames, -1)
    thin = _thinned(angles.swapaxes(0, 1).reshape(n_windows, copies * n_frames, -1), _ROUGH)
    rough = _solve(thin, windows, thermal, None)[0]
    log_w, f, overlap = np.empty(flat.shape[:2]), np.empty((copies, n_windows)), np.zeros((n_windows, n_windows))
    for copy in range(copies):
        solved, matrix = _solve(_thinned(angles[copy], _LARGEST), windows, thermal, rough)
        if _gap(matrix.numpy()) < _SMALLEST_GAP:
            raise GibbsianError("umbrella: windows do not overlap; use more of them, a smaller k or more steps")
        f[copy], overlap = solved.numpy(), overlap + matrix.numpy() / copies
        counts = torch.full((n_windows,), n_frames)
        size = max(1, _LARGEST // n_windows)
        parts = [
            log_mixture(_reduced(flat[copy, i : i + size], windows, thermal), counts, solved)
            for i in range(0, flat.shape[1], size)
        ]
        log_d = torch.cat(parts)
        log_w[copy] = (-log_d - torch.logsumexp(-log_d, 0)).numpy() - np.log(copies)
    return log_w, f, overlap


def _solve(angles: Floats, windows: Windows, thermal: float, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Free energies (K,) and overlap matrix (K, K) from `angles` (K, frames, d)."""
    n_windows, n_frames, _ = angles.shape
    u = _reduced(angles.reshape(n_windows * n_frames, -1), windows, thermal)
    counts = torch.full((n_windows,), n_frames)
    f = free_energies(u, counts, first)
    share = (f - u - (log_mixture(u, counts, f) - np.log(n_frames))[:, None]).exp_()
    return f, share.T @ share / n_frames


def _reduced(angles: Floats, windows: Windows, thermal: float) -> Tensor:
    return torch.from_numpy(windows.energies(angles) / thermal)


def _thinned(angles: Floats, largest: int) -> Floats:
    """Every so many frames of `angles` (K, frames, d), so that the matrix of bias energies has `largest` elements."""
    n_windows, n_frames, _ = angles.shape
    return angles[:, :: -(-(n_windows**2 * n_frames) // largest)]


def _free_energy_statistics(f: Floats) -> dict[str, Any]:
    relative = f - f.mean(1, keepdims=True)
    error = relative.std(0, ddof=1) / np.sqrt(len(f))
    mean = relative.mean(0)
    return {"free_energies": (mean - mean.min()).round(4).tolist(), "free_energy_errors": error.round(4).tolist()}


def _overlap_statistics(overlap: Floats, windows: Windows) -> dict[str, float]:
    i, j = windows.neighbours.T
    return {
        "smallest_neighbour_overlap": round(float(overlap[i, j].min()), 6),
        "overlap_gap": round(_gap(overlap), 6),
    }


def _gap(overlap: Floats) -> float:
    """Return 1 minus the second eigenvalue: zero if the windows fall into parts without overlap."""
    return float(1 - np.linalg.eigvalsh((overlap + overlap.T) / 2)[-2])


def _inefficiency(angles: Floats, windows: Windows, frame: float) -> dict[str, float]:
    deviations = wrapped(angles - windows.centres[:, None])  # (copies, K, frames, d)
    series = torch.from_numpy(deviations).permute(1, 3, 0, 2).flatten(0, 1)
    values = [frame * statistical_inefficiency(window) for window in series]
    return {"median": round(float(np.median(values)), 4), "largest": round(max(values), 4)}
