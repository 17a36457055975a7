import itertools
from pathlib import Path

import numpy as np
import pytest

from gibbsian.bench import account, references, sbg, sbg_ablations, sbg_speed, tables
from gibbsian.bench.rows import Row, RowKey, read_row
from gibbsian.bench.sbg_ablations import Sizes
from gibbsian.bench.sbg_proposals import PROPOSALS, ProposalRecipe
from gibbsian.bench.sbg_training import snapshots
from gibbsian.bench.sbg_work import Budget, Desk
from gibbsian.errors import InputError, StoppedError

NAME = "ACE-ALA-NME"
DYNAMICS = references.Budget(
    ns=0.05, ladders=6, t_max=400, frame_ps=0.1, runs=3, run_ns=0.0008, lag_ps=0.1, groups=1, start_steps=50
)
TINY = Budget(
    DYNAMICS,
    contiguous_ns=0.01,
    steps=30,
    draws=(200, 400),
    repeats=2,
    few_repeats=1,
    levels=3,
    compared=60,
    transported=50,
    transported_once=20,
    splits=2,
    curve=(0.5, 1.0),
)
SMALL = {"blocks": 2, "depth": 1, "width": 16, "head": 16}
SPLINE = {"couplings": (2, 2, 2), "hidden": 16, "depth": 1, "bins": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tables.Place:
    """One work folder for all tests: rows share simulations and trainings."""
    return tables.Place(tmp_path_factory.mktemp("sbg") / "results")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of hours."""
    monkeypatch.setattr(sbg, "BUDGETS", {NAME: TINY})
    monkeypatch.setattr(sbg, "PROTOCOL", "spline")
    proposals = {
        "soft": ProposalRecipe("tarflow", {**SMALL, "gauge": "soft"}, lr=1e-3, batch=64, samplers=()),
        "spline": ProposalRecipe("spline", {**SPLINE}, "spline", steps=4.0, lr=5e-3, batch=64, cartesian=False),
    }
    for name in list(PROPOSALS):
        monkeypatch.delitem(PROPOSALS, name)
    for name, recipe in proposals.items():
        monkeypatch.setitem(PROPOSALS, name, recipe)
    sizes = Sizes((100, 200), 30, (2,), (0.5,), 30, 2, 2, 20, 4, 2)
    monkeypatch.setattr(sbg_ablations, "SIZES", sizes)
    monkeypatch.setattr(sbg_speed, "SIZES", sbg_speed.Sizes(2, 8, 4))


def made(place: tables.Place, row: str, seed: int | None = 0) -> Row:
    key = next(k for k in sbg.rows() if (k.system, k.row, k.seed) == (NAME, row, seed))
    tables.make("sbg", [key], place)
    return read_row(key.path(place.results))


def values(row: Row) -> dict[str, float]:
    return {name: m.value for name, m in row.metrics.items() if m.value is not None}


def test_a_stopped_training_continues_and_keeps_its_account(place: tables.Place) -> None:
    def stop(done: float, total: float, /, **figures: float | str) -> None:
        if "held_out_nll" in figures and done >= 15:
            raise StoppedError("stopped")

    key = RowKey("sbg", NAME, "soft.training", 0)
    with pytest.raises(StoppedError):
        tables.make("sbg", [key], place, report=lambda key: stop)
    folder = Desk.of(NAME, TINY, place).folder / "soft.exchange.seed0"
    assert not (folder / "flow.safetensors").exists()
    row = made(place, "soft.training")
    points = snapshots(folder)
    assert [step for step, _, _ in points] == [15, 30]
    assert 0 < points[0][1] < points[1][1] <= values(row)["core_seconds_training"] + 0.01
    assert row.budget["training_steps"] == 30
    assert 0 < values(row)["orientation_ess_fraction"] <= 1


@pytest.mark.parametrize(
    "what", ["proposal@200", "snis@200", "smc-ula@200", "smc@200", "smc-regen@200", "exchange@200"]
)
def test_every_method_has_all_columns(place: tables.Place, what: str) -> None:
    row = made(place, f"spline.{what}")
    found = values(row)
    assert {"e_w1", "e_w2", "t_w2", "tica_w2", "core_seconds_total", "basin_error", "t_w2_20"} <= set(row.metrics)
    for name in ("e_w1", "e_w2", "t_w2", "tica_w2"):
        assert (row.metrics[name].floor or 0) > 0
    parts = ("core_seconds", "core_seconds_training", "core_seconds_data")
    assert found["core_seconds_total"] == pytest.approx(sum(found[p] for p in parts))
    assert ("log_z" in found) == (what.split("@")[0] in ("snis", "smc-ula", "smc", "smc-regen"))
    assert row.budget["exact"] is (not what.startswith("smc-ula"))
    if what.startswith("smc"):
        assert 0 < found["effective_fraction"] <= 1


def test_larger_rows_continue_the_draws_of_smaller_ones(place: tables.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Desk.of(NAME, TINY, place).folder / "draws.spline.exchange.seed0" / "snis.0"
    small = made(place, "spline.snis@200")
    before = account.spent_in(folder)
    monkeypatch.setattr(account, "core_seconds", itertools.count(step=5).__next__)
    large = made(place, "spline.snis@400")
    assert account.spent_in(folder) == pytest.approx(before + 5)
    assert len(list(folder.glob("numbers-*.npy"))) == 2
    assert large.metrics["energy_calls"].value == 2 * (small.metrics["energy_calls"].value or 0)
    assert large.budget["sampling_seeds"] == 2
    costs = [account.spent_in(folder.with_name(f"snis.{k}")) for k in range(2)]
    assert min(costs) > 0
    assert values(large)["core_seconds"] == pytest.approx(sum(costs) / 2)


def test_reading_what_is_there_costs_nothing(place: tables.Place) -> None:
    made(place, "spline.snis@200")
    accounts = sorted(Desk.of(NAME, TINY, place).folder.rglob("cost.json"))
    before = [path.read_bytes() for path in accounts]
    assert len(before) >= 5
    RowKey("sbg", NAME, "spline.snis@200", 0).path(place.results).unlink()
    made(place, "spline.snis@200")
    assert [path.read_bytes() for path in accounts] == before


def test_replica_exchange_spends_what_the_flow_has_cost(place: tables.Place, tmp_path: Path) -> None:
    key = RowKey("sbg", NAME, "spline.replica-exchange", 0)
    with pytest.raises(InputError, match=r"--row spline.snis@400 --seed 0"):
        tables.make("sbg", [key], tables.Place(tmp_path / "results"))
    flow = made(place, "spline.snis@400")
    row = made(place, "spline.replica-exchange")
    assert values(row)["core_seconds_allowed"] == values(flow)["core_seconds_total"]
    assert values(row)["frames"] > 100
    assert "log_z" not in row.metrics


def test_published_protocols_say_what_they_miss(place: tables.Place) -> None:
    row = made(place, "data-contiguous", None)
    assert "ALA2 left" in row.budget["missed_basins"]
    biased = made(place, "data-phi-biased", None)
    assert biased.budget["law"] == "phi-biased"


def test_phi_bias_raises_the_left_basin_of_the_training_part_alone() -> None:
    from gibbsian.bench.sbg_work import phi_biased
    from gibbsian.chem.library import built_in
    from gibbsian.ensemble.ensemble import Ensemble
    from gibbsian.ensemble.geometry import ramachandran
    from gibbsian.training.data import split

    system = built_in(NAME)
    noise = 0.03 * np.random.default_rng(0).normal(size=(4000, *system.positions.shape))
    lineage = np.arange(4000) // 200
    frames = Ensemble(
        (system.positions + noise).astype(np.float32), np.zeros(4000), system.topology, 300.0, lineage=lineage
    )
    biased = phi_biased(frames, (0.1, 0))
    raised = biased.log_w != 0
    assert set(lineage[~raised]).isdisjoint(lineage[raised])
    training, unseen = split(biased, 0.1, 0)
    assert np.ptp(unseen.log_w) == 0
    assert len(unseen) == (~raised).sum()
    phi = ramachandran(training.topology, training.positions)[1][:, 0, 0]
    near = np.abs(phi - 1.0) < 0.3
    if near.any():
        assert training.log_w[near].min() > training.log_w[~near].mean()


def test_ablations_and_speeds_are_made(place: tables.Place) -> None:
    names = ["com.N200", "centroid", "steps.none.h.K2", "tau.0.5", "kernel.regen+mala", "chirality.soft"]
    found = {name: values(made(place, f"ablation-{name}")) for name in names}
    assert found["centroid"]["before: mean |c|/sigma"] == pytest.approx(1.6, abs=0.4)
    assert "none (clipped 0.002): ess_fraction" in found["com.N200"]
    assert found["kernel.regen+mala"]["energy_calls"] > 30
    # Thirty steps teach a flow nothing about handedness.
    assert 0.2 < found["chirality.soft"]["inverted"] < 0.8
    assert found["chirality.soft"]["mixed"] == 0, "there is one stereocentre"
    for name in ("tokens", "cache", "energies", "inference"):
        assert all(v > 0 for n, v in values(made(place, f"speed.{name}", None)).items() if "seconds" in n)


def test_curve_has_a_point_for_each_snapshot(place: tables.Place) -> None:
    row = made(place, "soft.curve")
    assert row.budget["steps"] == [15, 30]
    found = values(row)
    assert found["step 30: nll"] < found["step 15: nll"]
    assert found["step 15: core_seconds_training"] < found["step 30: core_seconds_training"]
