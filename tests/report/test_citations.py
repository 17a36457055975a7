import re

from gibbsian.report.citations import citations, cited, readable


def test_only_what_was_used_is_cited():
    info = {
        "system": {"forcefield": "amber99sbildn", "solvent": "amber99_obc"},
        "simulation": {"temperatures": [300, 400]},
        "recipe": "spline",
    }
    keys = cited(info)
    assert {"openmm8", "amber99sbildn", "obc", "remd", "splineflows", "psis"} <= set(keys)
    assert not {"amber14", "gbn2", "charmm36"} & set(keys)
    assert "remd" not in cited({"system": info["system"], "recipe": "spline"})
    assert len(set(keys)) == len(keys)


def test_bibtex_is_complete_and_balanced():
    info = {
        "system": {"forcefield": "charmm36", "solvent": "gbn2"},
        "simulation": {"frames": 1},
        "recipe": "spline",
    }
    text = citations(info)
    entries = text.strip().split("\n\n")
    assert len(entries) == len(cited(info))
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        assert re.match(r"@\w+\{\w+,\n", entry)
        assert all(f"  {field}" in entry for field in ("author", "title", "year"))


def test_reading_list_has_no_markup_left():
    info = {
        "system": {"forcefield": "charmm36", "solvent": "gbn2"},
        "simulation": {"frames": 1},
        "recipe": "spline",
    }
    for entry in readable(info):
        assert not re.search(r"[{}\\$]", entry["title"] + entry["authors"] + entry["source"])
        assert entry["link"].startswith("https://") or not entry["link"]


def test_every_forcefield_and_solvent_has_an_entry():
    for forcefield in ("amber96", "amber99sbildn", "amber14", "amber19", "charmm36"):
        assert forcefield in cited({"system": {"forcefield": forcefield}})
    for solvent in ("amber96_obc", "amber99_obc", "hct", "obc1", "obc2", "gbn", "gbn2"):
        assert len(citations({"system": {"solvent": solvent}})) > len(citations({}))
