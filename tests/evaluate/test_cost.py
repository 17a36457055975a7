import math

import pytest

from gibbsian.ensemble.weights import Estimate
from gibbsian.evaluate.cost import Account, KnownBasin, break_even, error_after, largest_error, time_to

ACCOUNT = Account(fixed=30.0, variable=20.0)


def basin(error: float, value: float = 1.0, certified: tuple[float, float] | None = None) -> KnownBasin:
    return KnownBasin("ALA2 left", Estimate(value, error), None if certified is None else Estimate(*certified))


def test_the_worst_basin_decides():
    assert time_to([basin(0.02), basin(0.2)], ACCOUNT) == pytest.approx(30 + 20 * 4)
    assert time_to([basin(0.02), basin(0.05)], ACCOUNT) == pytest.approx(30 + 20 / 4), "only the share needed counts"
    assert time_to([basin(0.1)], ACCOUNT, target=0.05) == pytest.approx(30 + 20 * 4)


def test_what_is_not_known_is_not_reached():
    assert time_to([], ACCOUNT) is None
    assert time_to([basin(0.02), basin(math.inf, value=math.inf)], ACCOUNT) is None
    assert largest_error([basin(0.1), basin(math.nan)]) == math.inf


def test_a_certified_value_must_be_within_reach_of_target_and_chance():
    # 0.1 + 2 sqrt(0.03^2 + 0.04^2) = 0.2
    assert time_to([basin(0.03, 1.19, certified=(1.0, 0.04))], ACCOUNT) == pytest.approx(30 + 20 * 0.09)
    assert time_to([basin(0.03, 1.21, certified=(1.0, 0.04))], ACCOUNT) is None
    assert basin(0.03, 1.25, certified=(1.0, 0.04)).strain == pytest.approx(5.0)
    assert basin(0.03).strain == 0.0


def test_error_falls_with_the_root_of_what_is_paid_for_samples():
    assert error_after(0.1, ACCOUNT, 50.0) == pytest.approx(0.1)
    assert error_after(0.1, ACCOUNT, 110.0) == pytest.approx(0.05)
    assert error_after(0.1, ACCOUNT, 30.0) == math.inf


def test_break_even_is_where_both_cost_the_same():
    dear, cheap = Account(100.0, 1.0), Account(5.0, 80.0)
    error = break_even((0.03, dear), (0.09, cheap))
    times = [time_to([basin(0.03)], dear, target=error), time_to([basin(0.09)], cheap, target=error)]
    assert times[0] == pytest.approx(times[1])
    below = 0.5 * error
    first, second = time_to([basin(0.03)], dear, below), time_to([basin(0.09)], cheap, below)
    assert first is not None
    assert second is not None
    assert first < second
    assert break_even((0.9, dear), (0.01, cheap)) == 0.0
    assert break_even((0.01, cheap), (0.9, dear)) == math.inf
