from dialanine import info, results

from gibbsian.report.tables import (
    basin_rows,
    basins_left_out,
    distance_rows,
    observable_rows,
    performance_rows,
    simulation_rows,
)


def test_basin_difference_has_the_combined_error():
    row = basin_rows(results())[0]
    assert row["value"] == "3.96 ± 0.07"
    assert row["difference"] == "0.05 ± 0.14"
    assert row["population"] == "1.9 %"


def test_a_basin_that_only_one_side_knows_is_shown_and_one_that_neither_does_is_counted():
    nothing = {"value": None, "error": None}
    known = {"name": "a", "free_energy": nothing, "reference": {"value": 3.0, "error": 0.1}}
    unseen = {"name": "b", "free_energy": nothing, "reference": None}
    found = {"basins": [known, unseen]}
    (row,) = basin_rows(found)
    assert (row["name"], row["value"], row["difference"]) == ("a", "–", "–")
    assert basins_left_out(found) == 1


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
