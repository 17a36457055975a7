"""Rows of the table `annealing`, with seconds in place of hours."""

from pathlib import Path

import pytest

from gibbsian.bench import annealing, annealing_methods, references, tables
from gibbsian.bench.annealing_methods import METHODS, Size, settings_of
from gibbsian.bench.rows import Row, RowKey, read_row
from gibbsian.bench.sbg_work import Budget
from gibbsian.errors import InputError
from gibbsian.workflow.settings import RunSettings, resolve_settings

NAME = "ACE-ALA-NME@amber96"
DYNAMICS = references.Budget(
    ns=0.05, ladders=6, t_max=400, frame_ps=0.1, runs=3, run_ns=0.0008, lag_ps=0.1, groups=1, start_steps=50
)
TINY = Size(
    Budget(
        DYNAMICS,
        contiguous_ns=0,
        steps=0,
        draws=(1000,),
        repeats=2,
        compared=60,
        transported=50,
        transported_once=0,
        splits=2,
    ),
    calls=2_400,
    long=4_800,
    joined=2_400,
    samples=400,
    fit_steps=3,
    steps=6,
)
FULL = annealing_methods.SIZES[NAME]
MODEL = {"couplings": (2, 2, 2), "hidden": 16, "depth": 1, "bins": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tables.Place:
    """One work folder for all tests: rows share simulations and trainings."""
    return tables.Place(tmp_path_factory.mktemp("annealing") / "results")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small flow and little of everything."""
    for module in (annealing, annealing_methods):
        monkeypatch.setattr(module, "SIZES", {NAME: TINY})

    def small(name: str, size: Size, system: str, seed: int) -> RunSettings:
        given = settings_of(name, size, system, seed).model_dump(mode="json")
        given["model"] = MODEL
        if given["annealing"]:
            # Data that end at 400 K say nothing of 700 K.
            given["annealing"] |= {"ess_floor": 1e-6, "levels": 1, "samples": TINY.samples, "start_temperature": None}
        return resolve_settings(given, "test")

    monkeypatch.setattr(annealing_methods, "settings_of", small)


def made(place: tables.Place, row: str) -> Row:
    key = RowKey("annealing", NAME, row, 0)
    tables.make("annealing", [key], place)
    return read_row(key.path(place.results))


@pytest.mark.parametrize("method", ["likelihood", "reverse-kl", "mass-transport", "fab"])
def test_a_method_is_trained_judged_and_sampled(place: tables.Place, method: str) -> None:
    trained, sampled = made(place, f"{method}.training"), made(place, f"{method}.snis@1k")
    assert trained.metrics["core_seconds_training"].value
    assert 0 <= (trained.metrics["forward_ess_fraction"].value or 0.0) <= 1
    log_z = sampled.metrics["log_z"].value
    eubo = trained.metrics["eubo"].value
    assert log_z is not None
    assert eubo is not None
    # KL(p | q) is not negative.
    assert eubo > log_z - 5 * (sampled.metrics["log_z"].error or 1.0)
    calls = trained.metrics["energy_calls_training"].value
    curve = [name for name in trained.metrics if name.endswith(": ess_fraction")]
    if METHODS[method].annealing is None:
        assert not curve
        assert calls == (256 * TINY.steps if METHODS[method].reverse_kl else 0)
    else:
        assert len(curve) >= 1
        assert calls == TINY.calls
    assert {"ess_fraction", "k_hat", "ram_tv_100x100", "basin_error"} <= set(sampled.metrics)
    assert sampled.metrics["ram_tv_100x100"].floor is not None


def test_a_method_that_is_refused_leaves_rows_that_say_so(place: tables.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    small = annealing_methods.settings_of

    def strict(*args: object) -> RunSettings:
        given = small(*args).model_dump(mode="json")  # type: ignore[arg-type]
        given["annealing"] |= {"ess_floor": 0.98, "fraction": 0.99}
        return resolve_settings(given, "test")

    monkeypatch.setattr(annealing_methods, "settings_of", strict)
    for row in ("ladder.training", "ladder.snis@1k", "joined.training"):
        found = made(place, row)
        assert not found.metrics
        assert "5 steps in a row were refused" in found.budget["refused"]


def test_replica_exchange_spends_what_the_dearest_method_did(place: tables.Place) -> None:
    dear = made(place, "mass-transport.snis@1k").metrics["core_seconds_total"].value
    row = made(place, "replica-exchange")
    assert dear is not None
    assert (row.metrics["core_seconds_total"].value or 0.0) > 0.2 * dear
    assert row.budget["spends_the_cost_of"].endswith(".snis@1k")


def test_replica_exchange_needs_a_method_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one of them first"):
        made(tables.Place(tmp_path / "results"), "replica-exchange")


def test_every_method_has_settings_that_a_run_takes() -> None:
    for name, method in METHODS.items():
        settings = settings_of(name, FULL, NAME, 0)
        assert bool(settings.stages) == (method.likelihood or method.refit or method.reverse_kl)
        assert (settings.annealing is not None) == (method.annealing is not None)


def test_figures_and_what_was_published(place: tables.Place) -> None:
    row = made(place, "mass-transport.training")
    assert list(annealing.figures([row])) == [f"ess_against_calls_{NAME}"]
    assert annealing.figures([made(place, "likelihood.training")]) == {}
    table = annealing.beside({NAME})
    assert table is not None
    assert table.row_count == 3
