"""The trace of a training on energies in the report."""

import pytest

from gibbsian.report.energy_training import energy_training, energy_training_rows


def log(n: int = 6) -> list[dict[str, float | str]]:
    """Lines of an annealing whose rare basin gets lost."""
    return [
        {
            "calls": 1000.0 * (k + 1),
            "ess": 0.5,
            "target_ess": 0.01 * (k + 1),
            "target_log_z": -195.0 - 0.1 * k,
            "divergence": 0.3,
            "entropy_drop": 1.0,
            "refused": "yes" if k == 2 else "no",
            "ALA2 left drawn": 0.02 / (k + 1),
            "ALA2 left weighted": 0.02,
            "ALA2 beta drawn": 0.6,
            "ALA2 beta weighted": 0.6,
        }
        for k in range(n)
    ]


def test_the_table_says_what_was_spent_and_refused():
    rows = {name: (value, meaning) for name, value, meaning in energy_training_rows(log())}
    assert rows["Energies"][0].replace("\u202f", " ").replace("\u2009", " ") in ("6 000", "6000", "6,000")
    assert rows["Steps"][1].startswith("1 of them refused")
    assert rows["Effective at the last draw"][0].startswith("6")
    assert energy_training_rows([]) == []


@pytest.mark.parametrize("n", [1, 6])
def test_the_figure_names_its_curves_and_the_rarest_basin(n):
    svg = energy_training(log(n))
    assert svg.startswith("<svg")
    for text in ("effective draws / %", "loss of entropy", "ALA2 left", "for the next step"):
        assert text in svg
