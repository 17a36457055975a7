"""Ablations of the table `sbg`: one choice of the published method at a time, on the trained proposal ``soft``.

``com`` and ``centroid`` weight the same draws with different laws of the centre of mass, ``steps`` and ``tau`` change
the annealing, ``kernel`` its moves at equal energy calls, ``chirality`` what is done with wrong handedness. ``gauge``
is made of the rows ``PROPOSAL.curve``.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gibbsian.bench.account import metered, spent_in
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.sbg_methods import PAPER_STEPS, annealing, draw_by
from gibbsian.bench.sbg_metrics import Judge, distances, judge_of
from gibbsian.bench.sbg_proposals import PROPOSALS
from gibbsian.bench.sbg_training import Fitted, trained
from gibbsian.bench.sbg_work import Desk, data, spread
from gibbsian.chem.residues import chiral_centres
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.weights import ess, normalised
from gibbsian.models.base import Proposal
from gibbsian.models.gauges import COM_LAWS, SoftGauge
from gibbsian.progress import Report, silent
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings, paper_settings
from gibbsian.sampling.truncation import clip_weights
from gibbsian.threads import one_thread

NAMES = ("com", "centroid", "steps", "tau", "chirality", "gauge", "kernel")
"""What can be chosen."""

SYSTEMS = ("ACE-ALA-NME", "AAA")
"""Where they have rows; the first unless told otherwise."""

PREFIX, SUBJECT = "ablation-", "soft"
COMS = ("none", *reversed(COM_LAWS))
CLIPS = (0.0, 0.002)
BINS = 30


@dataclass(frozen=True)
class Sizes:
    """How large the ablations are; every row takes minutes.

    Attributes
    ----------
    draws
        Draws of ``com``; ``centroid`` takes the most.
    particles, levels
        Of ``steps``.
    taus, tau_particles, tau_levels, seeds
        Thresholds of ``tau``, its particles, levels and sampling seeds.
    kernel_particles, kernel_calls, kernel_seeds
        Particles of ``kernel``, energy calls of each, and sampling seeds.
    """

    draws: tuple[int, ...] = (1_000, 10_000, 100_000)
    particles: int = 400
    levels: tuple[int, ...] = (10, 30, 100, 300, 1000)
    taus: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    tau_particles: int = 1_000
    tau_levels: int = 30
    seeds: int = 3
    kernel_particles: int = 200
    kernel_calls: int = 60
    kernel_seeds: int = 20


SIZES = Sizes()

KERNELS: dict[str, tuple[dict[str, Any], int]] = {
    "ula": ({"kernel": "ula", "regen": None}, 1),
    "mala": ({"kernel": "mala", "regen": None}, 1),
    "hmc": ({"kernel": "hmc", "regen": None, "n_leapfrog": 5}, 5),
    "rwm": ({"kernel": "rwm", "regen": None}, 1),
    "regen": ({"moves": 0, "regen": "mix"}, 1),
    "regen+mala": ({"kernel": "mala", "regen": "mix"}, 2),
}
"""Settings of each kernel, and the energy calls of a level."""


def rows(systems: tuple[str, ...] = SYSTEMS) -> list[RowKey]:
    """Every row of every ablation but ``gauge``."""
    names = [f"com.N{n}" for n in SIZES.draws] + ["centroid"]
    names += [f"steps.{com}.{mode}.K{k}" for com in COMS for mode in ("h", "hK") for k in SIZES.levels]
    names += [f"tau.{tau:g}" for tau in SIZES.taus] + [f"kernel.{name}" for name in KERNELS]
    names += [f"chirality.{name}" for name, recipe in PROPOSALS.items() if recipe.available and recipe.cartesian]
    return [RowKey("sbg", system, PREFIX + name, 0) for system in systems for name in names]


def owns(key: RowKey) -> bool:
    """Whether a row is made here."""
    return key.row.startswith(PREFIX)


def belongs(key: RowKey, name: str) -> bool:
    """Whether a row of the table is part of an ablation; ``gauge`` compares curves that have rows of their own."""
    if name == "gauge":
        return key.row.endswith(".curve")
    return key.row.partition(".")[0] == PREFIX + name


def run(key: RowKey, desk: Desk, report: Report = silent) -> Row:
    """Make one row."""
    name, _, rest = key.row.removeprefix(PREFIX).partition(".")
    subject = rest if name == "chirality" else SUBJECT
    fitted = trained(desk, subject, "exchange", 0, report)
    make: dict[str, Callable[..., tuple[dict[str, Metric], dict[str, Any]]]] = {
        "com": _com,
        "centroid": _centroid,
        "steps": _steps,
        "tau": _tau,
        "kernel": _kernel,
        "chirality": _chirality,
    }
    folder = desk.folder / key.row
    folder.mkdir(parents=True, exist_ok=True)
    with metered(folder), one_thread():
        metrics, notes = make[name](desk, fitted, rest, report)
    metrics["core_seconds"] = Metric(spent_in(folder))
    return Row(key, metrics, {**notes, "sizes": dataclasses.asdict(SIZES), "proposal": subject}, hardware())


def log_gauge(com: str, gauge: SoftGauge, x: Tensor) -> Tensor:
    """Law of the centre of mass (B,) of conformations (B, n, 3) nm; ``none`` leaves it out, which no product may do."""
    if com == "none":
        return torch.zeros(len(x), dtype=torch.float64)
    return SoftGauge(gauge.n_atoms, gauge.scale, com).log_gauge(x)


def reweighted(ensemble: Ensemble, gauge: SoftGauge, com: str) -> NDArray[np.float64]:
    """Log weights (n,) of draws of a soft proposal with another law of the centre of mass."""
    assert ensemble.u is not None
    assert ensemble.log_q is not None
    law = log_gauge(com, gauge, torch.from_numpy(ensemble.positions).double()).numpy()
    finite = np.isfinite(ensemble.log_w)
    u, log_q = np.where(finite, ensemble.u, 0.0), np.where(finite, ensemble.log_q, 0.0)
    return np.where(finite, law - u - log_q, -np.inf)


def _gauge(fitted: Fitted) -> SoftGauge:
    gauge = getattr(fitted.flow, "gauge", None)
    assert isinstance(gauge, SoftGauge)
    return gauge


def _draws(desk: Desk, fitted: Fitted, n: int, report: Report) -> Ensemble:
    return draw_by(desk, fitted, "snis", n, 1, report).ensembles[0]


def _com(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Correction and clipping against the number of draws."""
    n = int(rest.removeprefix("N"))
    ensemble, judge = _draws(desk, fitted, n, report), judge_of(desk, report)
    metrics: dict[str, Metric] = {}
    for com in COMS:
        log_w = reweighted(ensemble, _gauge(fitted), com)
        metrics |= _clipped(replace(ensemble, log_w=log_w), judge, com)
    return metrics, {"draws": n}


def _clipped(ensemble: Ensemble, judge: Judge, label: str) -> dict[str, Metric]:
    """Effective size and distances with and without clipping; clipped ones say so."""
    metrics: dict[str, Metric] = {}
    for clip in CLIPS:
        log_w = clip_weights(ensemble.log_w, clip, "drop")[0] if clip else ensemble.log_w
        name = label + (f" (clipped {clip:g})" if clip else "")
        metrics[f"{name}: ess_fraction"] = Metric(ess(log_w) / len(ensemble))
        if np.isfinite(log_w).any():
            values, floors = distances(replace(ensemble, log_w=log_w), judge, 0, 1)
            metrics |= {f"{name}: {k}": Metric(values[k].value, None, floors[k]) for k in values}
    return metrics


def _centroid(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Distance of the centre of mass from the origin before and after weighting."""
    ensemble = _draws(desk, fitted, max(SIZES.draws), report)
    gauge = _gauge(fitted)
    sigma = float(gauge.scale) / math.sqrt(gauge.n_atoms)
    radius = np.linalg.norm(ensemble.positions.astype(np.float64).mean(axis=1), axis=1) / sigma
    laws = {"before": np.zeros(len(ensemble))} | {com: reweighted(ensemble, gauge, com) for com in COMS}
    metrics, histograms = {}, {}
    for name, log_w in laws.items():
        if np.isfinite(log_w).any():
            weights = normalised(log_w)
            metrics[f"{name}: mean |c|/sigma"] = Metric(float(weights @ radius), 1 / math.sqrt(ess(log_w)))
            counts, _ = np.histogram(radius, BINS, (0.0, 6.0), weights=weights)
            histograms[name] = counts.round(6).tolist()
    expected = {"before": 1.596, "gaussian": 1.596, "chi3": 2.128}
    return metrics, {"draws": len(ensemble), "perfect_model": expected, "bins": [0, 6, BINS], "histograms": histograms}


class WithCom:
    """A soft proposal whose law of the centre of mass is another one, or none.

    Parameters
    ----------
    flow, gauge
        The proposal, and its gauge.
    com
        One of `COMS`.
    """

    def __init__(self, flow: Proposal, gauge: SoftGauge, com: str) -> None:
        self.flow, self.gauge, self.com = flow, gauge, com
        self.n_atoms = flow.n_atoms

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws and log densities of the flow."""
        return self.flow.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of the flow."""
        return self.flow.log_prob(x)

    def log_prob_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density of the flow and its gradient."""
        return self.flow.log_prob_and_grad(x)

    def log_gauge(self, x: Tensor) -> Tensor:
        """Return the other law."""
        return log_gauge(self.com, self.gauge, x)


def _annealed(
    desk: Desk, proposal: Proposal, settings: SmcSettings, n: int, seed: int, report: Report = silent
) -> Ensemble:
    settings = replace(settings, chunk=min(settings.chunk, n))
    common: Mapping[str, Any] = {"topology": desk.system.topology, "temperature": desk.system.temperature}
    return sample_smc(proposal, desk.target(), n, settings=settings, seed=seed, report=report, **common)


def _steps(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Annealing with the published moves against the number of levels."""
    com, mode, last = rest.split(".")
    levels = int(last.removeprefix("K"))
    # The published step belongs to 100 levels.
    h = PAPER_STEPS[desk.name] * (1.0 if mode == "h" else 100.0 / levels)
    settings = paper_settings(spread(data(desk)), h)
    settings = replace(settings, levels=levels, truncation=replace(settings.truncation, clip=0.0))
    proposal = WithCom(fitted.flow, _gauge(fitted), com)
    ensemble = _annealed(desk, proposal, settings, SIZES.particles, 0, report)
    metrics = _clipped(ensemble, judge_of(desk, report), com) | {
        "effective_fraction": Metric(ensemble.provenance["effective"] / len(ensemble)),
        "log_z": Metric(*ensemble.log_z),
        "energy_calls": Metric(ensemble.provenance["energy_calls"]),
    }
    return metrics, {"levels": levels, "h": h, "step_nm": settings.step}


def _tau(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Annealing with another threshold of resampling; 0 is never, 1 at every level."""
    settings = replace(
        annealing("smc-mala", desk, 0.0), threshold=float(rest), levels=SIZES.tau_levels, conditional_ess=None
    )
    return _repeated(desk, fitted, settings, SIZES.tau_particles, SIZES.seeds, report)


def _kernel(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Annealing with one kernel, as many levels as its energy calls allow."""
    choices, calls = KERNELS[rest]
    levels = max(1, SIZES.kernel_calls // calls)
    settings = replace(SmcSettings(), levels=levels, conditional_ess=None, **choices)
    return _repeated(desk, fitted, settings, SIZES.kernel_particles, SIZES.kernel_seeds, report)


def _repeated(
    desk: Desk, fitted: Fitted, settings: SmcSettings, n: int, seeds: int, report: Report
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Spread of log Z, of ancestors and of distances over sampling seeds."""
    judge = judge_of(desk, report)
    found: dict[str, list[float]] = {}
    floors: dict[str, float] = {}
    for seed in range(seeds):
        ensemble = _annealed(desk, fitted.flow, settings, n, seed)
        values, floors = distances(ensemble, judge, seed, 1)
        figures = {name: values[name].value for name in ("e_w1", "t_w2") if name in values}
        figures |= {
            "log_z": ensemble.log_z.value,
            "log_z_stated_error": ensemble.log_z.error,
            "ess_fraction": ensemble.ess / n,
            "effective_fraction": ensemble.provenance["effective"] / n,
            "energy_calls": ensemble.provenance["energy_calls"],
        }
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
        report(seed + 1, seeds, log_z=figures["log_z"])
    metrics = {name: _spread(values, floors.get(name)) for name, values in found.items()}
    deviation = metrics["log_z"].error
    if deviation is not None:
        metrics["log_z_spread"] = Metric(deviation, deviation / math.sqrt(2 * (seeds - 1)))
    return metrics, {"particles": n, "sampling_seeds": seeds, "settings": dataclasses.asdict(settings)}


def _spread(values: list[float], floor: float | None) -> Metric:
    """Mean and standard deviation, which exist where every run has a finite value."""
    if not np.isfinite(values).all():
        return Metric(None, None, floor)
    return Metric(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, floor)


def _chirality(desk: Desk, fitted: Fitted, rest: str, report: Report) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Wrong handedness in the draws without weights: left alone, reflected, weight zero."""
    sizes = fitted.recipe.draws or desk.budget.draws
    ensemble, judge = _raw(desk, fitted, min(sizes), report), judge_of(desk, report)
    inverted = inverted_centres(ensemble)
    whole, some = inverted.all(axis=1), inverted.any(axis=1)
    plain = replace(ensemble, log_w=np.zeros(len(ensemble)), u=None)
    sign = np.where(whole, -1.0, 1.0).astype(np.float32)
    treatments = {
        "unprocessed": plain,
        "reflected": replace(plain, positions=plain.positions * sign[:, None, None]),
        "weight zero": plain.take(~some),
    }
    metrics = {"inverted": Metric(float(whole.mean())), "mixed": Metric(float((some & ~whole).mean()))}
    for name, treated in treatments.items():
        if len(treated) > 1:
            values, floors = distances(treated, judge, 0, judge.budget.splits)
            metrics |= {f"{name}: {k}": Metric(values[k].value, None, floors[k]) for k in values}
    return metrics, {"draws": len(ensemble)}


def _raw(desk: Desk, fitted: Fitted, n: int, report: Report) -> Ensemble:
    """Draws as the network makes them: a flow that is blind to mirror images folds those that it hands out."""
    unfolded = getattr(fitted.flow, "sample_unfolded", None)
    if unfolded is None:
        return _draws(desk, fitted, n, report)
    x, log_q = unfolded(n, torch.Generator().manual_seed(0))
    sound = torch.isfinite(x).all(-1).all(-1)
    positions = torch.where(sound[:, None, None], x, 0.0).float().numpy()
    log_w = np.where(sound.numpy(), 0.0, -np.inf)
    system = desk.system
    return Ensemble(positions, log_w, system.topology, system.temperature, log_q=log_q.double().numpy())


def inverted_centres(ensemble: Ensemble) -> NDArray[np.bool_]:
    """Whether each stereocentre is the mirror image of that of an L-peptide, (n, centres); hydrogens do not count."""
    centres = np.array(chiral_centres(ensemble.topology), dtype=np.int64).reshape(-1, 4)
    x = ensemble.positions.astype(np.float64)
    a, b, c = (x[:, centres[:, k]] - x[:, centres[:, 0]] for k in (1, 2, 3))
    return (np.cross(a, b) * c).sum(axis=-1) < 0
