import numpy as np
import pytest

from gibbsian.errors import InputError
from gibbsian.evaluate.backbone import Fluctuations
from gibbsian.report.backbone import (
    Curve,
    Points,
    embedding,
    energy_distributions,
    fluctuations,
    lowest_traces,
)
from gibbsian.report.distributions import Energies
from gibbsian.report.svg import DATA, PROPOSAL, REWEIGHTED


def found(scale: float) -> Fluctuations:
    values = scale * np.linspace(0.05, 0.1, 8)
    return Fluctuations(np.arange(8), values, 0.1 * values, np.zeros((8, 3)))


def test_fluctuations_name_every_ensemble_and_dash_the_second_of_a_colour():
    svg = fluctuations(
        [Curve("training", DATA, found(1)), Curve("test", DATA, found(1.1)), Curve("model", PROPOSAL, found(2))]
    )
    assert 'aria-label="Fluctuation of each alpha carbon: training, test, model"' in svg
    assert "stroke-dasharray" in svg
    assert "var(--proposal)" in svg
    assert "stroke-dasharray" not in fluctuations([Curve("training", DATA, found(1))]).replace(
        "stroke-dasharray: none", ""
    )


def test_energy_axis_ends_where_simulations_do_and_shows_what_is_beyond():
    u = np.linspace(0, 100, 1001)
    equal = np.full(1001, 1 / 1001)
    clashing = np.where(np.arange(1001) < 250, np.inf, u / 2)
    curves = [
        Energies("training", DATA, u / 4, equal),
        Energies("rebuilt", DATA, u, equal),
        Energies("generated", PROPOSAL, clashing, equal),
        Energies("reweighted", REWEIGHTED, u, np.where(u > 99.95, 0.5, 0.5 / 1000)),
    ]
    svg = energy_distributions(curves)
    assert "training (none beyond)" in svg
    assert "generated (25 % beyond)" in svg
    assert "reweighted (50 % beyond)" in svg
    with pytest.raises(InputError, match="generated has no finite energy"):
        energy_distributions([curves[1], Energies("generated", PROPOSAL, np.full(3, np.inf), np.ones(3) / 3)])


@pytest.mark.parametrize("shift", [-500, 500])
def test_energy_axis_holds_the_simulation_and_the_bulk_of_what_was_rebuilt_without_its_clashes(shift):
    u = np.linspace(-50, 50, 1000)
    equal = np.full(1000, 1 / 1000)
    rebuilt = np.where(np.arange(1000) < 800, u + shift, 1e6)
    svg = energy_distributions([Energies("training", DATA, u, equal), Energies("rebuilt", DATA, rebuilt, equal)])
    assert "training (none beyond)" in svg or "training (0.1 % beyond)" in svg
    assert "rebuilt (20 % beyond)" in svg


def test_embedding_shows_equal_numbers_of_points():
    rng = np.random.default_rng(0)
    sets = [
        Points("training", DATA, rng.normal(size=(300, 2))),
        Points("generated", PROPOSAL, rng.normal(size=(40, 2))),
    ]
    svg = embedding(sets)
    assert "training (40 points)" in svg
    assert "generated (40 points)" in svg
    assert svg == embedding(sets)
    assert svg != embedding(sets, seed=1)


def test_traces_tell_their_energies():
    start = np.random.default_rng(1).normal(size=(9, 3))
    svg = lowest_traces(start, np.stack([start + 0.1, start - 0.1]), np.array([-310.4, -300.0]))
    assert "2 lowest energies, −310 to −300 kJ/mol" in svg
    with pytest.raises(InputError, match="at least one"):
        lowest_traces(start, np.zeros((0, 9, 3)), np.zeros(0))
