import math
from pathlib import Path

import numpy as np
import pytest

from gibbsian.chem.library import built_in_names
from gibbsian.ensemble.reference import (
    Histogram,
    Reference,
    ReferenceBasin,
    SlowModes,
    combine,
    file_name,
    load_reference,
    reference_folder,
)
from gibbsian.ensemble.weights import Estimate
from gibbsian.errors import InputError
from gibbsian.files import read_json

KEY = {
    "sequence": "ACE-ALA-NME",
    "termini": "capped",
    "forcefield": "amber14",
    "solvent": "obc1",
    "cutoff": 2.0,
    "temperature": 310.15,
}


def reference() -> Reference:
    rng = np.random.default_rng(0)
    line = Histogram(((-10.0, 20.5, 8),), rng.dirichlet(np.ones(8)), "kT")
    plane = Histogram(((-180.0, 180.0, 4),) * 2, rng.dirichlet(np.ones(16)).reshape(4, 4), "deg")
    basins = (
        ReferenceBasin("ALA2 left", Estimate(3.96, 0.04), Estimate(0.0187, 0.0007)),
        ReferenceBasin("ALA2 beta", Estimate(math.nan, math.inf), Estimate(1.0, 0.0)),
    )
    slow = SlowModes(rng.normal(size=5), rng.normal(size=(5, 2)), np.array([0.9, 0.5]), 10.0, plane)
    return Reference("ala", KEY, basins, {"ALA2": plane}, line, line, slow, (0, 1), ("a", "b"), {"budget": {"ns": 1}})


def test_a_reference_comes_back_by_its_key(tmp_path: Path) -> None:
    made = reference()
    path = made.save(tmp_path)
    found = load_reference(KEY, tmp_path)
    assert found is not None
    assert found.key == KEY
    left, beta = found.basins
    assert left == made.basins[0]
    assert left.gated
    assert math.isnan(beta.free_energy.value)
    assert not beta.gated
    assert found.basin("ALA2 left") == left
    assert found.basin("ALA3 left") is None
    assert np.allclose(found.ramachandran["ALA2"].probabilities, made.ramachandran["ALA2"].probabilities, rtol=6e-3)
    assert found.energy.edges == made.energy.edges
    assert found.slow_modes is not None
    assert made.slow_modes is not None
    assert np.allclose(found.slow_modes.components, made.slow_modes.components, rtol=1e-5)
    assert path.read_text().count("\n") < 20, "one line per entry"


@pytest.mark.parametrize(
    "change",
    [{"temperature": 300.0}, {"cutoff": None}, {"solvent": "obc2"}, {"termini": "zwitterionic"}],
)
def test_another_key_is_another_reference(change: dict[str, object], tmp_path: Path) -> None:
    reference().save(tmp_path)
    assert load_reference({**KEY, **change}, tmp_path) is None


def test_a_damaged_reference_is_named(tmp_path: Path) -> None:
    path = reference().save(tmp_path)
    path.write_text("{}")
    with pytest.raises(InputError, match="ACE-ALA-NME_capped"):
        load_reference(KEY, tmp_path)


def test_long_sequences_have_short_and_different_file_names() -> None:
    one, two = ({**KEY, "sequence": "-".join(["ALA"] * 75 + [last])} for last in ("GLY", "VAL"))
    assert len(file_name(one)) < 150
    assert file_name(one) != file_name(two)


def test_combined_error_is_never_below_either_estimate() -> None:
    assert combine([Estimate(1.0, 0.3), Estimate(1.0, 0.4)]) == (1.0, pytest.approx(0.25))
    assert combine([Estimate(1.0, 0.0), Estimate(3.0, 0.0)]) == (2.0, pytest.approx(1.0))
    assert combine([Estimate(1.0, 0.2)]) == (1.0, pytest.approx(0.2))
    assert math.isinf(combine([Estimate(1.0, 0.1), Estimate(2.0, math.inf)]).error)


def test_shipped_references_are_small_and_found_under_their_own_key() -> None:
    for path in reference_folder().glob("*.json"):
        assert path.stat().st_size < 150_000
        content = read_json(path)
        assert content["system"] in built_in_names()
        assert file_name(content["key"]) == path.name
        assert load_reference(content["key"]) is not None
