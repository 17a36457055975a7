"""What the page says first: may the weights be believed, why, and what to do if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from gibbsian.evaluate.verdict import FORWARD_SHARE, MIN_EFFECTIVE, covers, k_hat_limit
from gibbsian.report.rounding import MISSING, grouped, percent, plain, with_error
from gibbsian.sampling.forward import ForwardEss


@dataclass(frozen=True)
class Headline:
    """Level ``good``, ``fair`` or ``bad``; a sentence; reasons; what to do."""

    level: str
    sentence: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def headline(results: Mapping[str, Any]) -> Headline:
    """Return the verdict in words.

    Parameters
    ----------
    results
        Content of results.json.
    """
    verdict = results.get("verdict") or {}
    reasons = tuple(str(reason) for reason in verdict.get("reasons") or ())
    if not verdict.get("reliable"):
        sentence = "Do not use these weights: the ensemble is not reliable."
        return Headline("bad", sentence, reasons, _advice(results))
    cautions = _cautions(results)
    if cautions:
        return Headline("fair", "These weights can be used, with care.", reasons + cautions, _advice(results))
    return Headline("good", "These weights can be believed.", reasons or _strengths(results), ())


_EFFECTIVE = {
    "smc": ("Effective ancestors", "1 / ΣW² with W the weight of all that descends from one draw"),
    "exchange": ("Effective samples", "by the correlation of energy and shape in time"),
    "snis": ("Effective samples", "(Σw)²/Σw², unclipped"),
}
"""Name and meaning of what the verdict counts, by method."""


def key_numbers(results: Mapping[str, Any], made: Mapping[str, Any] | None = None) -> list[tuple[str, str, str]]:
    """Return (quantity, value, meaning) rows; quantities that the run does not have are left out.

    Parameters
    ----------
    results
        Content of results.json.
    made
        Provenance of the ensemble, which knows how many draws of annealed samples still have descendants.
    """
    made = made or {}
    samples, ess = results.get("samples") or {}, results.get("ess") or {}
    forward, log_z = results.get("forward_ess") or {}, results.get("log_z") or {}
    proposed = samples.get("proposed") or 0
    method = samples.get("method") or "snis"
    effective, meaning = _EFFECTIVE.get(method, _EFFECTIVE["snis"])
    first = ("Samples", _count(proposed), "conformations of the coldest replicas")
    if method != "exchange":
        first = ("Samples proposed", _count(proposed), "conformations drawn from the generator")
    count = f"{plain(ess.get('count'), 3)} ({percent(ess.get('fraction'))})"
    if samples.get("weighted") is False:
        count, meaning = "unknown", "the samples carry no weights"
    rows: list[tuple[str, str, str]] = [
        first,
        ("with finite energy", _count(samples.get("finite")), "the others have weight zero and stay counted"),
        (
            effective,
            count,
            f"{meaning}; at least {MIN_EFFECTIVE} needed",
        ),
        (
            "Forward effective fraction",
            _forward(forward),
            "on held-out simulation frames; falls where the generator has lost a state",
        ),
        (
            "Pareto k-hat",
            plain(_finite(results.get("k_hat")), 3),
            f"tail of the weights; must stay below {k_hat_limit(proposed):.2f} for this many samples",
        ),
        ("log Z", with_error(log_z.get("value"), log_z.get("error")), "mean-free orthonormal measure, nm"),
    ]
    if results.get("target") == "completed":
        rows.append(("Target of the weights", "all atoms", "what the flow leaves out is drawn by a completion"))
    if forward.get("missed"):
        rest = f"out of the generator's reach; {percent(forward['covered'])} on the other frames"
        rows.insert(4, ("Held-out weight missed", percent(forward["missed"]), rest))
    if made.get("unique_ancestors") is not None:
        share = percent(made["unique_ancestors"] / made["ancestors"])
        left = f"{_count(made['unique_ancestors'])} ({share})"
        rows.insert(3, ("Draws with descendants", left, "the others died out when particles were resampled"))
    if samples.get("clipped"):
        rows.insert(2, ("with clipped weight", _count(samples["clipped"]), "a bias that no error bar shows"))
        unclipped = plain(_finite(samples.get("ess_unclipped")), 3)
        rows.insert(4, ("Effective samples without clipping", unclipped, "the number to compare with other runs"))
    if cut := samples.get("truncation"):
        bound = plain(_finite(cut.get("bias_bound")), 2)
        rows.append(
            ("Left out by truncation", percent(cut.get("mass_outside_p")), f"of the target; bias below {bound}")
        )
    return [row for row in rows if not row[1].startswith(MISSING)]


def _cautions(results: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    count = (results.get("ess") or {}).get("count") or 0.0
    if count < 3 * MIN_EFFECTIVE:
        found.append(f"Only {plain(count, 3)} effective samples: error bars are wide and themselves uncertain.")
    k_hat = _finite(results.get("k_hat"))
    if k_hat is not None and k_hat >= 0.5:
        found.append(f"k-hat is {k_hat:.2f}: the weights have no finite variance, so errors shrink slower than 1/√n.")
    if (results.get("samples") or {}).get("clipped"):
        found.append("Weights were clipped, which biases every average by an unknown amount.")
    off = [row["name"] for row in results.get("basins") or () if _disagrees(row)]
    if off:
        found.append(f"More than three standard errors from the reference: {', '.join(off)}.")
    return tuple(found)


def _strengths(results: Mapping[str, Any]) -> tuple[str, ...]:
    ess = results.get("ess") or {}
    return (
        f"{plain(ess.get('count'), 3)} effective samples and a light tail of the weights "
        f"(k-hat {plain(_finite(results.get('k_hat')), 2)}).",
    )


def _advice(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what would help, by what is short, in the order to try."""
    advice = []
    ess, forward = results.get("ess") or {}, results.get("forward_ess") or {}
    fraction, count = ess.get("fraction") or 0.0, ess.get("count") or 0.0
    n = (results.get("samples") or {}).get("proposed") or 0
    k_hat = _finite(results.get("k_hat"))
    heavy = k_hat is None or k_hat >= k_hat_limit(n)
    lost = forward.get("fraction") is not None and not covers(ForwardEss(**forward), FORWARD_SHARE * fraction)
    if lost or heavy or fraction < 0.01:
        advice.append("Start a run with more data: raise steps under data in a copy of run.yaml and give a new -o.")
    if lost:
        advice.append("Drop stages with w_kl from run.yaml, if there are any: they favour frequent states.")
    if not heavy and not lost and count < 3 * MIN_EFFECTIVE:
        advice.append("Draw more: gibbsian sample FOLDER --until-ess 500 tops up this run.")
    if any(_disagrees(row) for row in results.get("basins") or ()):
        advice.append("Repeat with another --seed: a shift that stays is no chance.")
    return tuple(advice)


def _disagrees(row: Mapping[str, Any], sigmas: float = 3.0) -> bool:
    ours, theirs = row.get("free_energy") or {}, row.get("reference") or {}
    if ours.get("value") is None or theirs.get("value") is None or row.get("gated") is False:
        return False
    error = ((ours.get("error") or 0.0) ** 2 + (theirs.get("error") or 0.0) ** 2) ** 0.5
    return error > 0 and abs(ours["value"] - theirs["value"]) > sigmas * error


def _forward(forward: Mapping[str, Any]) -> str:
    if forward.get("fraction") is None:
        return MISSING
    return f"{percent(forward['fraction'])} of {_count(forward.get('n'))} frames"


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _count(value: float | None) -> str:
    return MISSING if value is None else grouped(value)
