from dialanine import info, results

from gibbsian.report.tables import basin_rows, distance_rows, observable_rows, performance_rows, simulation_rows


def test_basin_difference_has_the_combined_error():
    row = basin_rows(results())[0]
    assert row["value"] == "3.96 ± 0.07"
    assert row["difference"] == "0.05 ± 0.14"
    assert row["population"] == "1.9 %"


def test_basin_without_a_reference_or_value():
    rows = basin_rows({"basins": [{"name": "a", "free_energy": {"value": None, "error": None}, "reference": None}]})
    assert rows[0]["value"] == rows[0]["reference"] == rows[0]["difference"] == "–"


def test_distances_are_graded_by_their_floor():
    levels = [row["level"] for row in distance_rows(results())]
    assert levels == ["good", "fair", "good", "good", "bad"]
    assert distance_rows({"distances": [{"name": "x", "n": 5, "value": 1.0, "floor": None}]})[0]["level"] == "none"


def test_angles_are_shown_in_degrees():
    assert observable_rows(results())[0] == ("phi ALA2", "−87.7 ± 0.7", "°")


def test_costs_are_readable():
    rows = dict(performance_rows(results()["performance"]))
    assert rows["Time: simulate"] == "2.0 min"
    assert rows["Energy calls: sample"] == "50\u202f000"


def test_simulation_shows_zero_resets():
    rows = dict(simulation_rows(info()["simulation"]))
    assert rows["Walkers set back after blowing up"] == "0"
    assert rows["Accepted exchanges"] == "58 % to 62 %"
