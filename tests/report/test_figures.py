import re

import numpy as np
import pytest

from gibbsian.report import figures


def test_svg_is_deterministic_and_self_contained():
    log_w = np.random.default_rng(2).normal(size=500)
    svg = figures.log_weight_histogram(log_w)
    assert svg == figures.log_weight_histogram(log_w)
    assert svg.startswith('<svg role="img" aria-label=')
    assert "var(--reweighted)" in svg
    assert "currentColor" in svg
    assert "#0101" not in svg
    assert "<style" not in svg
    assert set(re.findall(r"https?://[^\"]+", svg)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }


def test_figures_of_one_page_do_not_share_identifiers():
    log_w = np.random.default_rng(3).normal(size=500)
    svgs = [figures.log_weight_histogram(log_w), figures.largest_weights(log_w), figures.ess_against_n(log_w)]
    identifiers = [set(re.findall(r' id="([^"]+)"', svg)) for svg in svgs]
    assert all(identifiers)
    assert not identifiers[0] & identifiers[1]
    assert not identifiers[1] & identifiers[2]


def test_ess_against_n_accepts_zero_weights():
    log_w = np.concatenate([np.full(30, -np.inf), np.zeros(100)])
    assert "effective fraction" in figures.ess_against_n(log_w)


@pytest.mark.parametrize("error", [None, 0.1])
def test_basin_figure_without_reference(error):
    rows = [{"name": "ALA2 left", "free_energy": {"value": 3.9, "error": error, "unit": "kT"}}]
    svg = figures.basin_free_energies(rows)
    assert "ALA2 left" in svg
    assert ">reference<" not in svg


def test_training_curves_mark_stages():
    log = [{"step": i, "stage": "nll" if i < 5 else "kl", "train_nll": -float(i)} for i in range(10)]
    svg = figures.training_curves(log, "step", {"training": "train_nll"})
    assert "kl" in svg
    assert ">training<" in svg


def test_clashes_do_not_stretch_the_axis_of_log_weights():
    log_w = np.concatenate([np.random.default_rng(4).normal(size=500), np.full(50, -60_000.0)])
    assert "60000" not in figures.log_weight_histogram(log_w)
