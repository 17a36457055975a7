"""Rows of the table `split-flow` on a tiny budget."""

from pathlib import Path

import pytest

from gibbsian.bench import references, split_flow, tables
from gibbsian.bench.rows import Row, RowKey, read_row
from gibbsian.bench.split_flow_training import SIZES, VARIANTS, Size, calls_of, plain, settings_of
from gibbsian.chem.library import built_in
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.models.split_core import count_parameters
from gibbsian.models.split_flow import SplitFlowConfig

NAME = "ACE-ALA-NME@amber96"
DYNAMICS = references.Budget(
    ns=0.05, ladders=6, t_max=400, frame_ps=0.1, runs=3, run_ns=0.0008, lag_ps=0.1, groups=1, start_steps=50
)
TINY = Size(
    DYNAMICS,
    DYNAMICS,
    SplitFlowConfig(backbone=2, full=2, bins=4, width=16, key=8, value=16),
    steps=8,
    baseline_steps=10,
    later_steps=3,
    last_steps=3,
    batch=32,
    kl_batch=16,
    draws=200,
    repeats=2,
    unseen=400,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tables.Place:
    """One work folder for all tests: rows share simulations and trainings."""
    return tables.Place(tmp_path_factory.mktemp("split-flow") / "results")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_flow, "SIZES", {NAME: TINY})


def made(place: tables.Place, row: str, seed: int | None = 0) -> Row:
    key = RowKey("split-flow", NAME, row, seed)
    tables.make("split-flow", [key], place)
    return read_row(key.path(place.results))


def test_data_are_judged_by_an_independent_simulation(place: tables.Place) -> None:
    found = made(place, "data", None).metrics
    assert found["delta_d_backbone"].value is not None
    assert found["delta_d_backbone"].floor is not None
    assert (found["rebuilt_energy_median"].value or 0.0) < (found["energy_median"].value or 0.0)
    assert found["backbone_clashes"].value == 0.0
    assert 0 < (found["reconstruction_rmsd_heavy"].value or 0.0) < 0.1


@pytest.mark.parametrize("variant", ["nsf", "nll", "nll+w2+kl"])
def test_a_flow_is_judged_on_both_its_targets(place: tables.Place, variant: str) -> None:
    row = made(place, variant)
    assert {"ess_fraction", "ess_fraction_slice", "log_z", "nll_free", "forward_ess_fraction"} <= set(row.metrics)
    assert {"energy_median", "energy_lower_half", "clashes", "delta_mean_backbone"} <= set(row.metrics)
    assert row.budget["targets"]["ess_fraction"].startswith("completed")
    assert row.budget["clipping"] == "none"
    assert row.metrics["energy_calls_training"].value == calls_of(variant, TINY)


def test_energies_are_drawn_beside_those_of_the_data(place: tables.Place) -> None:
    rows = [made(place, "data", None), made(place, "nll")]
    drawn = split_flow.figures(rows)
    assert list(drawn) == [f"energies_{NAME}"]
    for label in ("data", "rebuilt", "nll"):
        assert label in drawn[f"energies_{NAME}"]
    assert split_flow.figures([]) == {}


def test_a_stage_costs_what_it_continues_too(place: tables.Place) -> None:
    costs = [made(place, name).metrics["core_seconds_training"].value for name in ("nll", "nll+w2+kl")]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[1] > costs[0] > 0


def test_replica_exchange_spends_what_the_dearest_flow_did(place: tables.Place) -> None:
    dear = made(place, "nll+w2+kl").metrics
    row = made(place, "replica-exchange")
    assert row.metrics["core_seconds_total"].value >= dear["core_seconds_training"].value  # type: ignore[operator]
    assert row.metrics["delta_d_backbone"].floor is not None


def test_replica_exchange_needs_a_flow_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one of them first"):
        made(tables.Place(tmp_path / "results"), "replica-exchange")


@pytest.mark.filterwarnings("ignore:reduced coordinates")
@pytest.mark.parametrize("system", SIZES)
def test_the_baseline_has_as_many_couplings_and_parameters(system: str) -> None:
    model, topology = SIZES[system].model, built_in(system).topology
    baseline = plain(model, topology)
    variables = ReducedCoordinates(topology, model.rotors).variables
    assert baseline.full == model.backbone + model.full
    ratio = count_parameters(baseline, variables) / count_parameters(model, variables)
    assert ratio == pytest.approx(1.0, abs=0.05)


@pytest.mark.filterwarnings("ignore:reduced coordinates")
def test_every_variant_has_settings_that_a_run_takes() -> None:
    size = SIZES["HP35-N27"]
    topology = built_in("HP35-N27").topology
    for name, variant in VARIANTS.items():
        (stage,) = settings_of(name, size, "HP35-N27", topology, 0).stages
        assert (stage.w_kl > 0, stage.w_w2 > 0) == ("kl" in variant.losses, "w2" in variant.losses)
        assert stage.generated == ("all" if variant.parent is None else "slice")
