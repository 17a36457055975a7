from dialanine import info, results, simulated, training_log, weighted

from gibbsian.report.page import render
from gibbsian.report.temperatures import temperature_plot, temperature_rows


def row(temperature: float, *, reliable: bool = True) -> dict:
    return {
        "temperature": temperature,
        "samples": 5000,
        "ess": {"count": 2501.3, "fraction": 0.50026},
        "k_hat": 0.31 if reliable else None,
        "reliable": reliable,
        "log_z": {"value": -195.6, "error": 0.012},
        "energy": {"value": -20.12, "error": 0.21, "unit": "kJ/mol"},
        "heat_capacity": {"value": 0.2612, "error": 0.0041, "unit": "kJ/mol/K"},
        "basins": [
            {"name": "ALA2 left", "free_energy": {"value": 4.1 - temperature / 300, "error": 0.1, "unit": "kT"}},
            {"name": "ALA2 alpha", "free_energy": {"value": None, "error": None, "unit": "kT"}},
        ],
    }


def scan(reliable: bool = True) -> dict:
    model = [row(300.0), row(450.0), row(600.0, reliable=reliable)]
    return results() | {"temperatures": {"model": model, "data": [row(300.0), row(489.9)]}}


def page(content: dict) -> str:
    return render(content, weighted(), simulated(), training_log(), info())


def test_the_section_is_there_with_numbers_and_figure_when_temperatures_are():
    text = page(scan())
    assert "Other temperatures" in text
    assert "0.261 ± 0.004" in text
    assert temperature_rows(scan())[0]["fraction"] == "50 %"
    assert temperature_rows(results()) == []


def test_a_point_that_may_not_be_believed_is_hollow_and_said_so():
    solid, hollow = temperature_plot(scan()), temperature_plot(scan(reliable=False))
    assert solid is not None
    assert hollow is not None
    assert solid != hollow
    last = temperature_rows(scan(reliable=False))[-1]
    assert (last["reliable"], last["level"], last["k_hat"]) == ("no", "bad", "–")


def test_one_temperature_or_a_failed_one_makes_no_figure_and_no_error():
    one = results() | {"temperatures": {"model": [row(300.0)], "data": []}}
    assert temperature_plot(one) is None
    assert temperature_plot(results()) is None
    failed = row(450.0, reliable=False) | {"energy": None, "heat_capacity": None, "basins": [], "k_hat": None}
    two = results() | {"temperatures": {"model": [row(300.0), failed], "data": []}}
    assert temperature_plot(two) is not None
    assert temperature_rows(two)[1]["heat_capacity"] == "–"
