"""Rows of the page's tables, as text."""

from collections.abc import Mapping, Sequence
from math import degrees, exp
from typing import Any

from gibbsian.report.rounding import MISSING, grouped, percent, plain, seconds, with_error

NEAR, FAR = 2.0, 5.0
"""A distance below NEAR floors is as good as the reference can tell; above FAR it is a clear difference."""


def basin_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name, free energy, population, reference and their difference for each basin that divides anything."""
    return [_basin_row(row) for row in results.get("basins") or () if _divides(row)]


def basins_left_out(results: Mapping[str, Any]) -> int:
    """Return the number of basins that hold everything or nothing, in the ensemble as in the reference."""
    return sum(not _divides(row) for row in results.get("basins") or ())


def _divides(row: Mapping[str, Any]) -> bool:
    """Whether the free energy of a basin is finite in the ensemble or in its reference."""
    return any((row.get(column) or {}).get("value") is not None for column in ("free_energy", "reference"))


def _basin_row(row: Mapping[str, Any]) -> dict[str, str]:
    ours, theirs = row.get("free_energy") or {}, row.get("reference") or {}
    value, other = ours.get("value"), theirs.get("value")
    population, difference = MISSING, MISSING
    if value is not None:
        population = percent(1 / (1 + exp(value)) if value < 500 else 0.0)
    if value is not None and other is not None:
        error = ((ours.get("error") or 0.0) ** 2 + (theirs.get("error") or 0.0) ** 2) ** 0.5
        difference = with_error(value - other, error)
    return {
        "name": str(row["name"]),
        "value": with_error(value, ours.get("error")),
        "population": population,
        "reference": with_error(other, theirs.get("error")),
        "difference": difference,
    }


def reference_note(results: Mapping[str, Any]) -> str:
    """Say where the reference column is from; empty where there is none."""
    source = results.get("reference") or {}
    if source.get("source") == "certified":
        length = f", {grouped(round(source['aggregate_ns']))} ns in all" if source.get("aggregate_ns") else ""
        rare = [str(row["name"]) for row in results.get("basins") or () if row.get("gated") is False]
        text = (
            f"The reference is certified: replica exchange with {len(source.get('seeds') or ())} independent seeds"
            f"{length}; its errors cover the spread between the seeds ({source.get('file')})."
        )
        return f"{text} Nothing is judged by {', '.join(rare)}, rare or unknown there." if rare else text
    if source.get("source") == "data":
        return "The training data serve as the reference: the ensemble is expected to be better than they are."
    return "The reference is the ensemble that was given." if source else ""


def observable_rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, average and unit of each observable; angles in degrees, as they are read."""
    rows = []
    for row in results.get("observables") or ():
        value, error, unit = row.get("value"), row.get("error"), row.get("unit") or ""
        if unit == "rad":
            value, error = (None if x is None else degrees(x) for x in (value, error))
            unit = "°"
        rows.append((str(row["name"]), with_error(value, error), unit))
    return rows


DISTANCES = {
    "e_w1": "Energies, W1 / kT",
    "e_w2": "Energies, W2 / kT",
    "t_w2": "Torsions, W2 / rad",
    "ram_jsd_36x36_bits": "Ramachandran, JSD / bit",
    "ram_tv_100x100": "Ramachandran, TV",
    "tica_w2": "Slow modes, W2",
    "certified_ram_tv_36x36": "Ramachandran against the certified reference, TV",
}
"""Names that people read, by the names of results.json."""


def distance_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name, sample size, value, floor, their ratio and a level for each distance."""
    return [_distance_row(row) for row in results.get("distances") or ()]


def _distance_row(row: Mapping[str, Any]) -> dict[str, str]:
    value, floor = row.get("value"), row.get("floor")
    ratio, level = MISSING, "none"
    if value is not None and floor:
        times = value / floor
        ratio, level = f"{times:.1f} ×", "good" if times < NEAR else "fair" if times < FAR else "bad"
    return {
        "name": DISTANCES.get(row["name"], str(row["name"])),
        "n": grouped(row["n"]) if row.get("n") else MISSING,
        "value": _three_digits(value),
        "floor": _three_digits(floor),
        "ratio": ratio,
        "level": level,
    }


def _three_digits(value: float | None) -> str:
    return MISSING if value is None else f"{value:#.3g}".rstrip(".")


_SIMULATION = {
    "ladders": "Independent ladders",
    "aggregate_ns": "Aggregate length / ns",
    "frames": "Frames kept",
    "frames_per_walker": "Frames per walker",
    "walkers": "Walkers",
    "round_trips": "Round trips",
    "statistical_inefficiency_ps": "Statistical inefficiency of the energy / ps",
    "resets": "Walkers set back after blowing up",
    "timestep": "Time step / ps",
    "friction": "Friction / ps⁻¹",
}


def simulation_rows(simulation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (quantity, value) of the replica exchange; lists are left to the figure."""
    rows = []
    temperatures: Sequence[float] = simulation.get("temperatures") or ()
    if temperatures:
        rows.append(("Temperatures / K", ", ".join(f"{t:.0f}" for t in temperatures)))
    acceptance: Sequence[float] = simulation.get("acceptance") or ()
    if acceptance:
        rows.append(("Accepted exchanges", f"{percent(min(acceptance))} to {percent(max(acceptance))}"))
    for key, value in simulation.items():
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            rows.append((_SIMULATION.get(key, _words(key)), _text(key, value)))
    return rows


def performance_rows(performance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (what, value) of the costs, nested groups with their names in front."""
    rows = []
    for key, value in performance.items():
        if key == "tt01":  # has a section of its own
            continue
        words = "time" if key == "seconds" else _words(key)
        name = f"{prefix}{words}" if prefix else words.capitalize()
        if isinstance(value, Mapping):
            rows.extend(performance_rows(value, f"{name}: "))
        elif value is not None:
            rows.append((name, _text("seconds" if prefix == "Time: " else key, value)))
    return rows


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
    if key.endswith("seconds"):
        return seconds(value)
    return grouped(value) if isinstance(value, int) else plain(value, 3)


def _words(key: str) -> str:
    return key.replace("_", " ")
