import json
import math
from pathlib import Path

import numpy as np
import pytest

from gibbsian.bench import references, tables
from gibbsian.bench.certify import combined_basins, histogram, tica_of, tica_out_of_sample
from gibbsian.bench.rows import Metric, Row, RowKey, read_row
from gibbsian.chem.library import built_in
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.reference import load_reference
from gibbsian.errors import InputError, StoppedError

TINY = references.Budget(
    ns=0.006, ladders=3, t_max=450, frame_ps=0.1, runs=3, run_ns=0.0008, lag_ps=0.1, groups=1, start_steps=50
)
NAME = "ACE-ALA-NME"


def synthetic(seed: int, value: float | None, error: float, p: float) -> Row:
    metrics = {"free_energy ALA2 left": Metric(value, error), "probability ALA2 left": Metric(p, 0.001)}
    return Row(RowKey("references", NAME, "exchange", seed), {**metrics, "frames": Metric(10)})


def test_seeds_combine_to_their_mean_with_the_larger_error() -> None:
    # Seeds that scatter more than they admit: s / sqrt 3 with s = 0.3.
    (basin,) = combined_basins([synthetic(k, 4.0 + 0.3 * (k - 1), 0.01, 0.02) for k in range(3)])
    assert basin.free_energy.value == pytest.approx(4.0)
    assert basin.free_energy.error == pytest.approx(0.3 / math.sqrt(3))
    assert basin.gated
    # Seeds that agree by chance: sqrt(3 e^2) / 3.
    (basin,) = combined_basins([synthetic(k, 4.0, 0.3, 0.02) for k in range(3)])
    assert basin.free_energy.error == pytest.approx(0.3 / math.sqrt(3))


def test_rare_and_unseen_basins_are_not_gated() -> None:
    (rare,) = combined_basins([synthetic(k, 7.6, 0.1, 5e-4) for k in range(3)])
    assert rare.probability.value == pytest.approx(5e-4)
    assert not rare.gated
    (full,) = combined_basins([synthetic(k, -7.6, 0.1, 1 - 5e-4) for k in range(3)])
    assert not full.gated
    (unseen,) = combined_basins([synthetic(0, None, math.inf, 0.0), synthetic(1, 3.0, 0.1, 0.05)])
    assert not unseen.gated
    assert math.isinf(unseen.free_energy.error)


def test_histogram_keeps_outliers_at_the_edge() -> None:
    values = np.array([[0.5], [1.5], [-7.0], [9.0]])
    found = histogram(values, np.array([1.0, 1.0, 2.0, 4.0]), [(0.0, 2.0, 2)])
    assert found.tolist() == [3 / 8, 5 / 8]


def test_modes_of_too_few_frames_do_not_show_up_in_other_runs() -> None:
    system, rng = built_in(NAME), np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(8 * 40, *system.positions.shape))
    lineage = np.repeat(np.arange(8), 40)
    provenance = {"settings": {"save_every": 50, "timestep": 0.002}}
    frames = Ensemble(
        (system.positions + noise).astype(np.float32),
        np.zeros(len(lineage)),
        system.topology,
        300.0,
        lineage=lineage,
        provenance=provenance,
    )
    tica, lag_ps = tica_of(frames, 0.2)
    assert (tica.lag, lag_ps) == (2, pytest.approx(0.2))
    assert tica.eigenvalues[0] > 0.2, "fitted noise looks slow"
    assert abs(tica_out_of_sample(frames, 0.2)[0]) < 0.15, "but only where it was fitted"


def test_from_nothing_to_a_certified_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(references, "BUDGETS", {NAME: TINY})
    monkeypatch.setattr(references, "SEEDS", (0, 1))
    place = tables.Place(tmp_path / "results", tmp_path)
    keys = references.rows()
    with pytest.raises(InputError, match="--row exchange --seed 0"):
        tables.make("references", [keys[-1]], place)

    def stop(done: float, total: float, /, **figures: float | str) -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        tables.make("references", keys, place, report=lambda key: stop)
    paid = json.loads((tmp_path / "work/references/ACE-ALA-NME.exchange.seed0/cost.json").read_text())
    assert len(tables.make("references", keys, place)) == 4

    row = read_row(keys[0].path(place.results))
    metrics = {name: metric.value for name, metric in row.metrics.items()}
    assert sum(metrics[f"probability ALA2 {basin}"] or 0.0 for basin in ("left", "alpha", "beta")) == pytest.approx(1)
    assert (metrics["frames"] or 0) > 50
    assert (metrics["core_seconds"] or 0) > paid["core_seconds"] > 0
    assert row.budget["seed"] == 0
    other = read_row(keys[1].path(place.results))
    assert other.metrics["ess"] != row.metrics["ess"], "seeds must differ"

    key = built_in(NAME).key
    reference = load_reference(key, tmp_path)
    assert reference is not None
    assert [basin.name for basin in reference.basins] == ["ALA2 left", "ALA2 alpha", "ALA2 beta"]
    assert reference.seeds == (0, 1)
    assert reference.ramachandran["ALA2"].probabilities.shape == (36, 36)
    for found in (*reference.ramachandran.values(), reference.energy, reference.radius_of_gyration):
        assert found.probabilities.sum() == pytest.approx(1, abs=3e-3)
    assert reference.slow_modes is not None
    assert reference.slow_modes.histogram.probabilities.sum() == pytest.approx(1, abs=3e-3)
    assert load_reference({**key, "temperature": 310.0}, tmp_path) is None
    (path,) = tmp_path.glob("*.json")
    assert path.stat().st_size < 150_000
