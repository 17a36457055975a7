"""What a user of a run should cite, chosen by what the run used."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_SOLVENTS = {
    "amber96_obc": "obc",
    "amber99_obc": "obc",
    "hct": "hct",
    "obc1": "obc",
    "obc2": "obc",
    "gbn": "gbn",
    "gbn2": "gbn2",
}
_RECIPES = {
    "spline": ("boltzmanngenerators", "splineflows", "circularsplines"),
    "thermal": ("boltzmanngenerators", "splineflows", "circularsplines"),
    "sbg": ("boltzmanngenerators", "tarflow", "sbg"),
    "ecnf": ("boltzmanngenerators", "egnn", "flowmatching", "tbg"),
    "ecnf_plus": ("boltzmanngenerators", "egnn", "flowmatching", "tbg", "sbg"),
    "split-flow": ("boltzmanngenerators", "splineflows", "circularsplines", "splitflow"),
    "eacf": ("boltzmanngenerators", "egnn", "splineflows", "eacf"),
}
_SIMULATION = ("remd", "langevinmiddle", "hydrogenmass")


def cited(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of what the run used.

    Parameters
    ----------
    info
        As in `gibbsian.report.page.write_report`; ``system``, ``recipe`` and ``simulation`` are read.
    """
    system = info.get("system") or {}
    keys = ["openmm8", "pytorch"]
    if system.get("forcefield") in _entries():
        keys.append(system["forcefield"])
    if system.get("solvent") in _SOLVENTS:
        keys.append(_SOLVENTS[system["solvent"]])
    if info.get("simulation"):
        keys.extend(_SIMULATION)
    if info.get("recipe"):
        keys.extend(_RECIPES.get(info["recipe"], ()))
        keys.append("psis")
    keys.append("threedmol")
    return tuple(keys)


def citations(info: Mapping[str, Any]) -> str:
    """Return the BibTeX entries (text of `cite.bib`) of what the run used."""
    entries = _entries()
    return "\n\n".join(entries[key] for key in cited(info)) + "\n"


def readable(info: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the same entries for a reading list: authors, title, source and, where known, link."""
    return [_readable(_entries()[key]) for key in cited(info)]


def _entries() -> dict[str, str]:
    text = files("gibbsian.report").joinpath("cite.bib").read_text(encoding="utf-8")
    blocks = [block.strip() for block in text.split("\n\n") if block.strip()]
    return {block[block.index("{") + 1 : block.index(",")]: block for block in blocks}


def _readable(entry: str) -> dict[str, str]:
    fields = {name: _plain(value) for name, value in re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", entry, re.MULTILINE)}
    names = [name.split(",")[0] for name in fields["author"].split(" and ")]
    several = len(names) > 2 or names[-1] == "others"
    authors = f"{names[0]} et al." if several else " and ".join(names)
    place = fields.get("journal") or fields.get("booktitle", "")
    numbers = ", ".join(fields[key] for key in ("volume", "pages") if key in fields)
    source = f"{place} {numbers} ({fields['year']})".replace("  ", " ")
    link = ""
    if "doi" in fields:
        link = f"https://doi.org/{fields['doi']}"
    elif fields.get("note", "").startswith("arXiv:"):
        link = f"https://arxiv.org/abs/{fields['note'].removeprefix('arXiv:')}"
    return {"authors": authors, "title": fields["title"], "source": source, "link": link}


_LETTERS = {
    r"{\'a}": "á",
    r"{\'e}": "é",
    r"{\'u}": "ú",
    r"{\`e}": "è",
    r"{\"o}": "ö",
    r"$\phi$": "φ",
    r"$\psi$": "ψ",
    r"$\chi_1$": "χ1",
    r"$\chi_2$": "χ2",
    "--": "–",
}


def _plain(text: str) -> str:
    for code, letter in _LETTERS.items():
        text = text.replace(code, letter)
    return text.replace("{", "").replace("}", "")
