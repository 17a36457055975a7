"""Rows of the table `flows`, with seconds in place of minutes."""

import pytest

from gibbsian.bench import flows, references, tables
from gibbsian.bench.flows import SHAPES, Size
from gibbsian.bench.rows import Row
from gibbsian.kernels import is_built

NAME = "ACE-ALA-NME@amber96"
DYNAMICS = references.Budget(
    ns=0.05, ladders=6, t_max=400, frame_ps=0.1, runs=3, run_ns=0.0008, lag_ps=0.1, groups=1, start_steps=50
)
TINY = Size(DYNAMICS, steps=4, unseen=150, draws=200, rounds=3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tables.Place:
    """One work folder for all tests: rows share simulations."""
    return tables.Place(tmp_path_factory.mktemp("flows") / "results")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "SIZES", {NAME: TINY})


def made(place: tables.Place, row: str) -> Row:
    keys = tables.select(flows.rows(), NAME, row)
    assert tables.make("flows", keys, place)
    return flows.run(keys[0], place)


@pytest.mark.parametrize("shape", ["default", "autoregressive-large"])
def test_a_shape_is_trained_and_judged_on_frames_that_it_has_not_seen(place, shape):
    row = made(place, f"{shape}.steps@4")
    assert row.metrics["nll"].value is not None
    assert (row.metrics["core_seconds_training"].value or 0.0) > 0.0
    assert 0.0 < (row.metrics["ess_fraction"].value or 0.0) <= 1.0
    assert row.budget["model"]["couplings"] == SHAPES[shape].get("couplings", (12, 2, 2))


@pytest.mark.skipif(not is_built(), reason="the compiled kernels were not built")
def test_speed_compares_both_and_leaves_the_kernels_in_use(place):
    used = flows.coupling.can_couple
    row = made(place, "speed")
    assert (row.metrics["compiled_over_torch_training"].value or 0.0) > 0.0
    assert flows.coupling.can_couple is used
