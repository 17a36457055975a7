"""Figures of the table `sbg`, from the rows that exist."""

import re
from collections.abc import Sequence

from gibbsian.bench.published import published
from gibbsian.bench.rows import Row
from gibbsian.report.benchmarks import Bar, Curve, Mark, distance_against_levels, ess_against_cost, inference_time

_STEP = re.compile(r"step (\d+): ess_fraction")
_LEVELS = re.compile(r"ablation-steps\.(?P<com>\w+)\.h\.K(?P<k>\d+)")
_SUM = "_seconds"
_METHODS = ("proposal", "snis", "smc_gradients", "smc_rwm", "smc_regen")


def figures(rows: Sequence[Row]) -> dict[str, str]:
    """Draw what the rows allow: SVG by name, systems apart where a figure is of one."""
    found: dict[str, str] = {}
    for system in dict.fromkeys(row.key.system for row in rows):
        mine = [row for row in rows if row.key.system == system]
        curves = [curve for curve in map(_curve, mine) if curve is not None]
        if curves:
            found[f"ess_against_cost_{system}"] = ess_against_cost(curves, _published(system))
        energy, torus = _annealed(mine, "e_w1"), _annealed(mine, "t_w2")
        if energy and torus:
            floors = (_floor(mine, "e_w1"), _floor(mine, "t_w2"))
            found[f"distance_against_levels_{system}"] = distance_against_levels(energy, torus, *floors)
    bars = [bar for row in rows if row.key.row == "speed.inference" for bar in _bars(row)]
    if bars:
        found["inference_time"] = inference_time(bars)
    return found


def _curve(row: Row) -> Curve | None:
    """Effective size against core-seconds of a training."""
    name, _, what = row.key.row.partition(".")
    if what != "curve":
        return None
    points = []
    for metric, fraction in row.metrics.items():
        step = _STEP.fullmatch(metric)
        cost = row.metrics.get(f"step {step[1]}: core_seconds_training") if step else None
        if cost is not None and cost.value is not None and fraction.value is not None:
            points.append((cost.value, fraction.value))
    seed = f", seed {row.key.seed}" if row.key.seed else ""
    return Curve(name + seed, *zip(*sorted(points), strict=True)) if points else None


def _published(system: str) -> Mark | None:
    """Effective size of the published flow under importance sampling."""
    for line in published():
        ess = line.figures.get("ess")
        if line.system == system and "SNIS" in line.method and ess is not None and ess.value and not line.starred:
            return Mark(f"published, {line.method}", ess.value)
    return None


def _annealed(rows: Sequence[Row], metric: str) -> list[Curve]:
    """Distances against the number of levels, a curve for each law of the centre."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        place = _LEVELS.fullmatch(row.key.row)
        found = row.metrics.get(metric)
        if place and found is not None and found.value is not None:
            points.setdefault(place["com"], []).append((float(place["k"]), found.value))
    return [Curve(com, *zip(*sorted(values), strict=True)) for com, values in points.items()]


def _floor(rows: Sequence[Row], metric: str) -> Mark | None:
    for row in rows:
        found = row.metrics.get(metric)
        if _LEVELS.fullmatch(row.key.row) and found is not None and found.floor is not None:
            return Mark("floor", found.floor)
    return None


def _bars(row: Row) -> list[Bar]:
    bars = []
    for method in _METHODS:
        seconds = row.metrics.get(method + _SUM)
        if seconds is not None and seconds.value is not None:
            bars.append(Bar(row.key.system, method.replace("_", " "), seconds.value, seconds.error))
    return bars
