from dataclasses import replace

import numpy as np

from gibbsian.ensemble.draws import drawn, sound
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def made_by(method: str, n: int = 6) -> Ensemble:
    x = backbone_positions(np.linspace(-2, -1, n)[:, None], np.ones((n, 1)))
    log_w = np.arange(n, dtype=float)
    made = {"method": method}
    return Ensemble(x, log_w, backbone_topology(1), 300.0, log_q=-log_w, lineage=np.arange(n), provenance=made)


def test_importance_samples_are_draws_of_equal_weight():
    found = drawn(made_by("snis"))
    assert found is not None
    assert np.ptp(found.weights) == 0
    assert found.lineage is None
    assert len(found) == 6


def test_what_was_moved_or_simulated_is_no_draw_unless_the_draws_are_kept():
    for method in ("smc", "langevin", "exchange"):
        assert drawn(made_by(method)) is None
    assert drawn(replace(made_by("temperature replica exchange"), log_q=None)) is None
    found = drawn(replace(made_by("smc"), draws=made_by("proposal", 3)))
    assert found is not None
    assert len(found) == 3


def test_broken_coordinates_are_left_out():
    ensemble = made_by("snis")
    assert sound(ensemble) is ensemble
    x = ensemble.positions.copy()
    x[1, 2, 0], x[4] = np.nan, 0.0
    assert sound(replace(ensemble, positions=x)).log_w.tolist() == [0, 2, 3, 5]
