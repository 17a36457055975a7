import numpy as np
import pytest

from gibbsian.report import distributions
from gibbsian.report.distributions import Distances, Energies
from gibbsian.report.svg import DATA, PROPOSAL


def test_axis_is_the_reference_and_twenty_kt_on_either_side():
    u = np.linspace(0.0, 100.0, 100_001)
    low, high = distributions.energy_axis(u, np.full(len(u), 1 / len(u)))
    assert low == pytest.approx(0.1 - 20, abs=0.01)
    assert high == pytest.approx(99.9 + 20, abs=0.01)


def test_axis_ignores_what_carries_no_weight():
    u = np.array([-5.0, 0.0, 1e9, np.inf, np.nan])
    low, high = distributions.energy_axis(u, np.array([0.5, 0.5, 0.0, 0.0, 0.0]))
    assert (low, high) == (-25.0, 20.0)


def test_share_outside_counts_clashes_and_what_is_not_finite():
    u = np.array([0.0, 1.0, -50.0, 1e9, np.inf, np.nan])
    curve = Energies("flow", PROPOSAL, u, np.array([0.3, 0.2, 0.1, 0.2, 0.1, 0.1]))
    assert distributions.share_outside(curve, -10, 10) == pytest.approx(0.5)
    assert "flow (50 % outside)" in distributions.energy_histogram([curve], (-10, 10))
    inside = Energies("data", DATA, np.zeros(9), np.full(9, 1 / 9))
    assert "data (none outside)" in distributions.energy_histogram([inside], (-10, 10))


def test_distances_have_an_accessible_title_and_survive_an_empty_short_range():
    edges = np.linspace(0, 1.0, 101)
    density = np.where(edges[:-1] > 0.3, 1.0, 0.0)
    svg = distributions.distance_histogram([Distances("data", DATA, density)], edges)
    assert 'aria-label="Density of the distances between all atoms: data"' in svg
