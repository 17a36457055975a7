"""Figures of the table `annealing`: the effective size of a flow's draws against the energy calls of its training."""

import re
from collections.abc import Sequence

from gibbsian.bench.published import published
from gibbsian.bench.rows import Row
from gibbsian.report.benchmarks import Curve, Mark, ess_against_cost

_POINT = re.compile(r"calls (\d+): ess_fraction")


def figures(rows: Sequence[Row]) -> dict[str, str]:
    """Draw what the rows allow: SVG by name, systems apart."""
    found: dict[str, str] = {}
    for system in dict.fromkeys(row.key.system for row in rows):
        curves = [curve for row in rows if row.key.system == system and (curve := _curve(row)) is not None]
        if curves:
            label = "energy calls of training"
            found[f"ess_against_calls_{system}"] = ess_against_cost(curves, _published(system), label)
    return found


def _curve(row: Row) -> Curve | None:
    points = []
    for name, metric in row.metrics.items():
        at = _POINT.fullmatch(name)
        if at and metric.value is not None:
            points.append((float(at[1]), metric.value))
    seed = f", seed {row.key.seed}" if row.key.seed else ""
    return Curve(row.key.row.partition(".")[0] + seed, *zip(*sorted(points), strict=True)) if points else None


def _published(system: str) -> Mark | None:
    """Effective size of constrained mass transport for the same peptide."""
    name = system.partition("@")[0]
    for line in published():
        ess = line.figures.get("ess")
        if line.system == name and line.method == "CMT" and ess is not None and ess.value:
            return Mark("published, CMT", ess.value)
    return None
