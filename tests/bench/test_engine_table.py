import pytest

from gibbsian.bench import engine
from gibbsian.bench.rows import RowKey
from gibbsian.bench.systems import ENGINE
from gibbsian.chem.system import System
from gibbsian.potentials import ENGINES

TINY = engine.Budget(rounds=2, seconds=0.005, most=128)


@pytest.mark.parametrize("solvent", ["obc2", "gbn2"])
def test_a_row_has_both_openmm_baselines(solvent: str) -> None:
    system = System.from_sequence("ACE-ALA-NME", "amber14", solvent)
    seen: list[float] = []
    row = engine.measure(
        RowKey("engine", "ACE-ALA-NME", "torch-float32"),
        system,
        TINY,
        workers=1,
        report=lambda done, total, **figures: seen.append(done),
    )
    assert seen == [1, 2]
    assert list(row.metrics) == ["rate", "openmm_best_rate", "openmm_shipped_rate", "ratio_best", "ratio_shipped"]
    value = {name: metric.value for name, metric in row.metrics.items()}
    assert all(v is not None and v > 0 for v in value.values())
    assert row.budget["n_atoms"] == 22
    if solvent == "gbn2":
        assert value["ratio_best"] == value["ratio_shipped"], "no built-in force has GBn2"
        assert list(row.budget["openmm"]) == ["shipped"]
    else:
        assert "GBSAOBCForce" in row.budget["openmm"]["best"]


def test_rows_are_those_of_the_engines_on_offer() -> None:
    keys = engine.rows()
    assert {key.system for key in keys} == set(ENGINE)
    assert {key.row.split("-")[0] for key in keys} <= set(ENGINES)
    assert len(set(keys)) == len(keys)


def test_a_variant_without_cutoff() -> None:
    assert ENGINE["AAA"].build().cutoff == 2.0
    assert ENGINE["AAA+nocutoff"].build().cutoff is None
    assert ENGINE["ACE-ALA-NME+gbn2"].build().solvent == "gbn2"
