import pytest
from dialanine import results

from gibbsian.report.headline import headline, key_numbers


def test_reliable_run_is_good_and_needs_no_advice():
    found = headline(results())
    assert found.level == "good"
    assert found.advice == ()
    assert found.reasons


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k_hat": 0.6}, "variance"),
        ({"ess": {"count": 150.0, "fraction": 0.003}}, "effective samples"),
        ({"samples": {"proposed": 50000, "finite": 50000, "clipped": 5}}, "clipped"),
    ],
)
def test_reliable_but_weak_runs_carry_a_caution(change, words):
    found = headline(results() | change)
    assert found.level == "fair"
    assert any(words in reason for reason in found.reasons)


def test_unreliable_run_says_why_and_what_to_do():
    bad = results() | {"verdict": {"reliable": False, "reasons": ["k-hat 1.3 is above 0.7."]}, "k_hat": 1.3}
    found = headline(bad)
    assert found.level == "bad"
    assert found.reasons == ("k-hat 1.3 is above 0.7.",)
    assert any("more data" in line for line in found.advice)
    assert not any("--until-ess" in line for line in found.advice)  # more of the same would not help


def test_lost_state_asks_for_data_not_for_samples():
    bad = results() | {
        "verdict": {"reliable": False, "reasons": ["forward ESS"]},
        "forward_ess": {"fraction": 0.001, "n": 2000},
    }
    advice = headline(bad).advice
    assert "more data" in advice[0]
    assert "w_kl" in advice[1]


def test_missing_numbers_are_left_out():
    names = [name for name, _, _ in key_numbers(results() | {"forward_ess": None, "log_z": None})]
    assert "log Z" not in names
    assert "Forward effective fraction" not in names
    assert "Pareto k-hat" in names


def test_biases_are_among_the_key_numbers():
    samples = {"proposed": 50000, "finite": 49000, "clipped": 100, "clipped_fraction": 0.002, "ess_unclipped": 321.0}
    cut = {"mass_outside_p": 0.001, "bias_bound": 0.02}
    rows = {name: value for name, value, _ in key_numbers(results() | {"samples": {**samples, "truncation": cut}})}
    assert rows["with clipped weight"] == "100"
    assert rows["Effective samples without clipping"] == "321"
    assert rows["Left out by truncation"].startswith("0.1")


def test_annealed_samples_are_counted_by_their_ancestors():
    annealed = results() | {"samples": {"proposed": 1000, "finite": 1000, "method": "smc"}}
    annealed["ess"] = {"count": 150.0, "fraction": 0.15}
    made = {"method": "smc", "ancestors": 1000, "unique_ancestors": 420}
    rows = {name: value for name, value, _ in key_numbers(annealed, made)}
    assert rows["Effective ancestors"] == "150 (15 %)"
    assert rows["Draws with descendants"] == "420 (42 %)"
    assert "Effective samples" not in rows


def test_samples_without_weights_have_no_effective_number():
    moved = results() | {"samples": {"proposed": 1000, "finite": 1000, "method": "langevin", "weighted": False}}
    rows = {name: value for name, value, _ in key_numbers(moved)}
    assert rows["Effective samples"] == "unknown"
