"""Drawing from a trained proposal by every method of the table `sbg`, resumable, with what it cost."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gibbsian.bench.account import metered, spent_in
from gibbsian.bench.sbg_training import Fitted
from gibbsian.bench.sbg_work import Desk, data, spread
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.progress import Report, silent
from gibbsian.sampling.importance import sample_snis
from gibbsian.sampling.kernels import KernelName
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings, paper_settings
from gibbsian.sampling.swap import SwapSettings, sample_exchange
from gibbsian.threads import one_thread

PAPER_STEPS = {
    "ACE-ALA-NME": 1e-7,
    "AAA": 1e-7,
    "ACE-AAA-NME": 1e-8,
    "AAAAAA": 1e-8,
    "chignolin": 2e-8,
    "CLN025": 2e-8,
}
"""Published steps of annealing in squared network units (first public code)."""

PARTICLES = 1000
"""Draws that are made together."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Ensembles with different sampling seeds.

    Attributes
    ----------
    ensembles
        One for each seed.
    energy_calls, core_seconds
        Mean over seeds.
    settings
        Of the method.
    """

    ensembles: Sequence[Ensemble]
    energy_calls: float
    core_seconds: float
    settings: dict[str, Any]


def draw_by(desk: Desk, fitted: Fitted, method: str, n: int, repeats: int, report: Report = silent) -> Drawn:
    """Draw `n` conformations by a method (``snis``, ``exchange`` or one of the annealings) with several seeds.

    Importance sampling of any size shares its draws, so that larger rows continue smaller ones.
    """
    place = desk.folder / f"draws.{fitted.folder.name}"
    ensembles, costs, calls = [], [], []
    for seed in range(repeats):
        folder = place / (f"snis.{seed}" if method == "snis" else f"{method}.{n}.{seed}")
        with drawing(folder):
            ensemble = _draw(desk, fitted, method, n, seed, folder, report)
        made = _drawn(folder) if method == "snis" else n
        costs.append(spent_in(folder) * n / made)
        calls.append(ensemble.provenance["energy_calls"])
        ensembles.append(ensemble)
    settings = ensembles[0].provenance.get("settings", {})
    return Drawn(ensembles, sum(calls) / repeats, sum(costs) / repeats, settings)


@contextmanager
def drawing(folder: Path) -> Iterator[None]:
    """Count what draws cost that are made into a folder on one thread; reading those that are there costs nothing."""
    before = _files(folder)
    with metered(folder) as meter, one_thread():
        yield
        meter.idle = _files(folder) == before


def _files(folder: Path) -> dict[Path, int]:
    """Files of a folder, but its account, with the time of their last change."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix in (".npy", ".safetensors")}


def _drawn(folder: Path) -> int:
    """Draws that lie in a folder of importance sampling."""
    import numpy as np

    return sum(np.load(path, mmap_mode="r").shape[1] for path in folder.glob("numbers-*.npy"))


def _draw(desk: Desk, fitted: Fitted, method: str, n: int, seed: int, folder: Path, report: Report) -> Ensemble:
    common: dict[str, Any] = {
        "topology": desk.system.topology,
        "temperature": desk.system.temperature,
        "folder": folder,
        "seed": seed,
        "report": report,
    }
    flow, target = fitted.flow, desk.target()
    if method == "snis":
        return sample_snis(flow, target, n, chunk=min(PARTICLES, min(_sizes(desk, fitted))), **common)
    if method == "exchange":
        return sample_exchange(flow, target, _kept(n), settings=exchange_settings(n), **common)
    settings = annealing(method, desk, PAPER_STEPS[desk.name])
    return sample_smc(flow, target, n, settings=replace(settings, chunk=min(PARTICLES, n)), **common)


def _sizes(desk: Desk, fitted: Fitted) -> tuple[int, ...]:
    return fitted.recipe.draws or desk.budget.draws


def exchange_settings(n: int) -> SwapSettings:
    """Return settings with which `n` draws are offered in all, the first fifth of them before anything is kept."""
    default = SwapSettings()
    sweeps = math.ceil(n / default.ladders)
    return replace(default, equilibration=sweeps // 5, every=1)


def _kept(n: int) -> int:
    """Return how many samples `n` offered draws leave."""
    ladders = SwapSettings().ladders
    sweeps = math.ceil(n / ladders)
    return (sweeps - sweeps // 5) * ladders


def annealing(method: str, desk: Desk, h: float) -> SmcSettings:
    """Return the settings of a row of annealing.

    ``smc-ula`` has the published ones, clipping included; the others adapt their steps and levels and clip nothing.
    ``smc`` has those of the package, ``smc-regen`` the redrawing of latent variables alone.

    Raises
    ------
    InputError
        For a name that is no annealing.
    """
    if method == "smc-ula":
        return replace(paper_settings(spread(data(desk)), h), levels=desk.budget.levels)
    if method == "smc":
        return replace(SmcSettings(), levels=desk.budget.levels)
    if method == "smc-regen":
        return replace(SmcSettings(), moves=0, levels=desk.budget.levels)
    kernels: dict[str, KernelName] = {"smc-mala": "mala", "smc-hmc": "hmc", "smc-rwm": "rwm"}
    if method not in kernels:
        raise InputError(f"method: got {method!r}; choose snis, exchange, smc, smc-ula, {', '.join(kernels)}")
    return replace(SmcSettings(), kernel=kernels[method], regen=None, levels=desk.budget.levels)
