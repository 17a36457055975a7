import pytest

from gibbsian.report.rounding import MISSING, grouped, percent, plain, seconds, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (3.9612, 0.043, "3.96 ± 0.04"),
        (3.9612, 0.19, "3.96 ± 0.19"),
        (3.9612, 0.0195, "3.96 ± 0.02"),
        (3.5, 0.096, "3.50 ± 0.10"),
        (-0.0004, 0.3, "0.0 ± 0.3"),
        (-1234.5, 37.0, "−1230 ± 40"),
        (61234.5, 12.0, "61\u202f234 ± 12"),
        (1.4e22, 4.6e23, "1e+22 ± 5e+23"),
        (-3.14e12, 4.4e9, "−3.140e+12 ± 4e+09"),
        (3.14e12, 1.2e9, "3.1400e+12 ± 1.2e+09"),
        (0.0, 4.4e9, "0e+00 ± 4e+09"),
        (0.00012, 0.000034, "0.00012 ± 0.00003"),
        (1.25, None, "1.25"),
        (1.25, float("inf"), "1.25"),
        (-126.27540733, 6e-18, "−126.3"),
        (0.0, 0.0, "0"),
        (None, 0.1, MISSING),
        (float("nan"), 0.1, MISSING),
    ],
)
def test_value_shows_no_digit_that_its_error_does_not_support(value, error, text):
    assert with_error(value, error) == text


def test_plain_numbers():
    assert plain(0.123456) == "0.1235"
    assert plain(300.0) == "300"
    assert plain(12345.678) == "12\u202f346"
    assert plain(-0.5) == "−0.5"
    assert plain(0) == "0"
    assert plain(1e-7) == "1.000e−07"
    assert plain(None) == MISSING


def test_units_of_people():
    assert grouped(1280000) == "1\u202f280\u202f000"
    assert percent(0.2304) == "23 %"
    assert percent(0.00024) == "0.024 %"
    assert percent(2.1e-36) == "< 0.0001 %"
    assert percent(0.0) == "0 %"
    assert percent(None) == MISSING
    assert seconds(41.8) == "41.8 s"
    assert seconds(371) == "6.2 min"
    assert seconds(9000) == "2.5 h"
