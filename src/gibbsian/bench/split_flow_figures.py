"""Figures of the table `split-flow`: one set of conformations against an independent simulation."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gibbsian.bench.rows import Metric, Row
from gibbsian.bench.sbg_metrics import against_basins, basin_figures, combined, single
from gibbsian.bench.sbg_work import Desk
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.ensemble.atoms import has_fold
from gibbsian.ensemble.draws import thinned
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.evaluate.backbone import backbone_distances, energy_statistics, rmsf
from gibbsian.evaluate.clashes import clash_share
from gibbsian.evaluate.reconstruction import rebuild, reconstruction
from gibbsian.models.split_flow import SplitFlow
from gibbsian.potentials import potential
from gibbsian.report.benchmarks import Box, energy_boxes
from gibbsian.sampling.forward import forward_ess
from gibbsian.targets.base import Target
from gibbsian.training.trainable import CHUNK

COMPARED = 2_000
"""Conformations of each side in distances, and frames that are rebuilt."""
REBUILT = 200
"""Frames whose error of reconstruction is taken apart."""
SHOWN = {"energy_5": 0.05, "energy_25": 0.25, "energy_median": 0.5, "energy_75": 0.75, "energy_95": 0.95}
"""Quantiles of energies that are drawn, by name."""


def figures(rows: Sequence[Row]) -> dict[str, str]:
    """Draw energies as generated, all of them, beside those of the data and of rebuilt frames: SVG by name."""
    found = {}
    for system in dict.fromkeys(row.key.system for row in rows):
        mine = [row for row in rows if row.key.system == system]
        pairs = [(row.key.row, _box(row, "")) for row in mine]
        pairs[1:1] = [("rebuilt", _box(row, "rebuilt_")) for row in mine if row.key.row == "data"]
        boxes = [Box(label, quantiles) for label, quantiles in pairs if quantiles is not None]
        if boxes:
            found[f"energies_{system}"] = energy_boxes(boxes)
    return found


def _box(row: Row, head: str) -> tuple[float, float, float, float, float] | None:
    names = [f"{head}{name}" for name in SHOWN]
    if not set(names) <= set(row.metrics):
        return None
    low, first, middle, third, high = (
        np.inf if (value := row.metrics[name].value) is None else value for name in names
    )
    return low, first, middle, third, high


def generated(ensemble: Ensemble, test: Ensemble) -> dict[str, Metric]:
    """Figures of conformations as they were generated, equally weighted, as the paper has them (arXiv 2401.04246).

    Energies in kT are those of all of them; ``lower_half`` is the convention of the paper, that leaves out the worse
    one.
    """
    assert ensemble.u is not None
    energies = energy_statistics(ensemble.u)
    metrics = {
        "energy": Metric(energies.mean, energies.deviation),
        "energy_lower_half": Metric(energies.lower_half_mean, energies.lower_half_deviation),
        **{name: Metric(energies.quantiles[q]) for name, q in SHOWN.items()},
        "energies_not_finite": Metric(1 - energies.finite / energies.n),
        "clashes": Metric(clash_share(ensemble.topology, ensemble.positions)),
        "backbone_clashes": Metric(clash_share(ensemble.topology, ensemble.positions, "backbone")),
    }
    sound = ensemble.take(np.isfinite(ensemble.u))
    if len(sound) < 2:
        return metrics
    equal = replace(sound, log_w=np.zeros(len(sound)))
    return metrics | distances(equal, test)


def distances(ensemble: Ensemble, test: Ensemble) -> dict[str, Metric]:
    """Delta-D and the difference of mean distances, Angstrom, and that of RMSF, nm, with floors of data from data."""
    found = backbone_distances(ensemble, test, n=COMPARED)
    metrics = {d.name: Metric(d.value, None, d.floor) for d in found}
    if has_fold(test.topology):
        mine, theirs = rmsf(ensemble).values, rmsf(test).values
        metrics["rmsf_difference"] = Metric(float(np.sqrt(np.mean((mine - theirs) ** 2))))
    return metrics


def weighted(runs: Sequence[Ensemble], desk: Desk) -> dict[str, Metric]:
    """Effective size, k-hat, log Z and free energies of draws of the unconstrained ensemble; unclipped."""
    return combined([single(run, len(run)) for run in runs]) | basins(runs, desk)


def basins(runs: Sequence[Ensemble], desk: Desk) -> dict[str, Metric]:
    """Free energies beside those of the certified reference; none without."""
    if desk.certified is None or any(run.ess == 0 for run in runs):
        return {}
    figures = [basin_figures(run) for run in runs]
    return combined(figures) | against_basins(figures, desk.certified.basins)[0]


def on_slice(run: Ensemble) -> dict[str, Metric]:
    """Effective size, k-hat and log Z of draws of the slice, whose target is another one."""
    return {f"{name}_slice": Metric(found.value, found.error) for name, found in single(run, len(run)).items()}


@torch.no_grad()
def likelihoods(flow: SplitFlow, test: Ensemble, target: Target, n: int) -> dict[str, Metric]:
    """Held-out negative log-likelihood of the free coordinates and of all, and the forward effective size."""
    frames = thinned(test, n)
    found = [_likelihood(flow, part.double()) for part in torch.from_numpy(frames.positions).split(CHUNK)]
    metrics = {}
    for name, nll in zip(("nll_free", "nll"), torch.cat(found, 1).numpy(), strict=True):
        values = nll[np.isfinite(nll)]
        metrics[name] = Metric(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))
    forward = forward_ess(flow, target, frames)
    return metrics | {"forward_ess_fraction": Metric(forward.fraction), "missed_share": Metric(forward.missed)}


def _likelihood(flow: SplitFlow, x: torch.Tensor) -> torch.Tensor:
    """Negative log density (2, B) of free coordinates and of all."""
    free, _ = flow.coordinates.from_x(x)
    return -torch.stack([flow.log_prob_free(free), flow.log_prob(x)])


def of_data(desk: Desk, training: Ensemble, test: Ensemble, coordinates: ReducedCoordinates) -> dict[str, Metric]:
    """Figures of the simulations: training against test, and what freezing coordinates changes (section C there)."""
    frames, learnt = thinned(test, COMPARED), thinned(training, COMPARED)
    c0 = coordinates.mean_frozen(torch.from_numpy(learnt.positions))
    x = torch.from_numpy(frames.positions).double()
    system = desk.system
    error = reconstruction(coordinates, x[:REBUILT], c0, potential(system, dtype=torch.float64), system.temperature)
    rebuilt = rebuild(coordinates, x, c0)
    u = desk.target().u(rebuilt).numpy()
    copy = replace(frames, positions=rebuilt.numpy().astype(np.float32), u=u)
    metrics = generated(learnt, test)
    metrics |= {f"rebuilt_{name}": metric for name, metric in generated(copy, test).items() if "rmsf" not in name}
    metrics |= {f"reconstruction_rmsd_{name}": Metric(*pair) for name, pair in error.rebuilt.rmsd.items()}
    return metrics | {
        "reconstruction_shift": Metric(error.rebuilt.shift),
        "reconstruction_spread": Metric(error.rebuilt.spread),
        "reconstruction_correlation": Metric(error.rebuilt.correlation),
    }


def notes_of(desk: Desk, flow: SplitFlow) -> dict[str, Any]:
    """Return what a row says about its ensembles."""
    return {
        "targets": {"ess_fraction": "completed, the unconstrained ensemble", "ess_fraction_slice": "conditional on c0"},
        "c0": "mean of the training data",
        "variant": desk.name,
        "clipping": "none",
        "free_coordinates": flow.coordinates.variables.n,
        "frozen_coordinates": flow.coordinates.frozen.n,
    }
