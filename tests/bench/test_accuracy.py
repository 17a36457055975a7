"""The accuracy table."""

from pathlib import Path

from gibbsian.bench import accuracy
from gibbsian.bench.rows import RowKey
from gibbsian.bench.tables import Place
from gibbsian.chem.forcefield import PAIRS
from gibbsian.chem.library import built_in_names


def test_every_system_and_pair_has_a_row() -> None:
    keys = accuracy.rows()
    assert len(set(keys)) == len(keys) == len(built_in_names()) + 2 * len(PAIRS)


def test_a_row_within_the_bounds(tmp_path: Path) -> None:
    row = accuracy.run(RowKey("accuracy", "ACE-ALA-NME", "as-built-in"), Place(tmp_path))
    values = {name: metric.value for name, metric in row.metrics.items()}
    assert len(values) == 3 * 5 * len({name.split(" ")[0] + name.split(" ")[1] for name in values})
    for name, value in values.items():
        assert value is not None
        if "kJ/mol" not in name:
            assert value <= (1e-7 if "float64" in name else 1e-4), name
    assert (values["compiled float32 md: energy kJ/mol"] or 1) <= 2e-4
    assert (values["compiled float32 md: force over rms"] or 1) <= 2e-5
