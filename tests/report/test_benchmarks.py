import re

import pytest

from gibbsian.errors import InputError
from gibbsian.report import benchmarks
from gibbsian.report.benchmarks import Bar, Box, Curve, Mark

RISING = Curve("body frame", [10, 100, 1000], [0.0, 0.01, 0.04], [0.0, 0.02, 0.01])


def test_every_system_and_method_is_named():
    bars = [Bar("AAA", "SNIS", 2.0, 0.3), Bar("AAA", "ECNF", 300.0), Bar("AAAAAA", "SNIS", 9.0)]
    svg = benchmarks.inference_time(bars)
    for name in ("AAA", "AAAAAA", "SNIS", "ECNF"):
        assert f">{name}<" in svg
    assert "10\u202f000 samples" in svg
    assert svg == benchmarks.inference_time(bars)


def test_effective_size_has_the_published_value_beside_it():
    svg = benchmarks.ess_against_cost([RISING], Mark("published", 0.03))
    assert ">published<" in svg
    assert ">body frame<" in svg
    assert "effective sample size / %" in svg


def test_distances_have_floors():
    svg = benchmarks.distance_against_levels([RISING], [RISING], Mark("floor", 0.001), None)
    assert svg.count(">floor<") == 1
    assert "annealing steps K" in svg


@pytest.mark.parametrize(("clash", "logarithmic"), [(50.0, False), (1e9, True)])
def test_energies_are_on_a_logarithmic_axis_only_where_clashes_need_one(clash, logarithmic):
    data, generated = Box("data", (-5, -1, 0, 1, 5)), Box("nll", (-5, 0, 2, 9, clash))
    svg = benchmarks.energy_boxes([data, generated])
    assert "potential energy above the median of data / kT" in svg
    # Powers of ten have exponents, which are spans.
    assert ("<tspan" in svg) == logarithmic


@pytest.mark.parametrize(
    "draw",
    [
        lambda: benchmarks.inference_time([]),
        lambda: benchmarks.inference_time([Bar("AAA", "SNIS", 0.0)]),
        lambda: benchmarks.ess_against_cost([Curve("none", [10.0], [0.0])]),
        lambda: benchmarks.distance_against_levels([RISING], []),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(InputError, match="give"):
        draw()


def test_files_stand_alone(tmp_path):
    (path,) = benchmarks.write_figures({"ess": benchmarks.ess_against_cost([RISING])}, tmp_path / "new")
    text = path.read_text()
    used, known = set(re.findall(r"var\((--[\w-]+)\)", text)), set(re.findall(r"(--[\w-]+):", text))
    assert text.startswith("<svg")
    assert used
    assert used <= known
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another"):
        benchmarks.write_figures({}, tmp_path / "file")
