from dataclasses import replace

import numpy as np
import pytest
from dialanine import simulated, weighted

from gibbsian.report.views import views


def made_by(method, n=200, **more):
    return replace(weighted(n), provenance={"method": method}, **more)


def test_importance_samples_are_their_own_proposal():
    shown = views(made_by("snis"), simulated(100), "data")
    assert [view.title for view in shown.known()] == ["data", "proposal, as drawn", "reweighted"]
    assert np.ptp(shown.proposal.ensemble.weights) == 0
    assert np.ptp(shown.result.ensemble.weights) > 0


@pytest.mark.parametrize("method", ["smc", "langevin"])
def test_moved_samples_are_shown_beside_the_draws(method):
    draws = weighted(50, seed=9)
    shown = views(made_by(method, draws=draws), None, "data")
    assert [view.title for view in shown.known()] == ["proposal, as drawn", "transported, unweighted", "reweighted"]
    assert np.array_equal(shown.proposal.ensemble.positions, draws.positions)
    assert np.ptp(shown.transported.ensemble.weights) == 0


def test_samples_that_were_moved_never_pass_for_draws():
    assert views(made_by("smc"), None, "data").proposal is None
    shown = views(made_by("exchange"), None, "data")
    assert (shown.proposal, shown.transported, shown.result.title) == (None, None, "exchange")


def test_broken_conformations_and_empty_ensembles_are_left_out():
    ensemble = made_by("snis", 10)
    positions = ensemble.positions.copy()
    positions[0], positions[1] = np.nan, 0.0
    shown = views(replace(ensemble, positions=positions), None, "data")
    assert len(shown.proposal.ensemble) == len(shown.result.ensemble) == 8
    nothing = views(replace(ensemble, positions=0 * positions, log_w=np.full(10, -np.inf)), None, "data")
    assert nothing.known() == []


def test_moves_without_weights_correct_nothing_and_say_so():
    plain = replace(made_by("langevin"), provenance={"method": "langevin", "weighted": False})
    shown = views(replace(plain, log_w=np.zeros(200)), None, "data")
    assert [view.title for view in shown.known()] == ["transported, unweighted"]
