from dialanine import info, results

from gibbsian.report.methods import methods


def test_paragraph_states_the_settings():
    text = methods(results(), info())
    for part in (
        "ACE-ALA-NME (22 atoms)",
        "Amber ff99SB-ILDN",
        "without a cutoff",
        "6 temperatures between 300 and 500 K in 8 independent ladders, 48 ns in all",
        "time step of 2 fs",
        "812\u202f345 parameters",
        "maximum likelihood (up to 1000 steps)",
        "50\u202f000 samples",
    ):
        assert part in text, part


def test_paragraph_leaves_out_what_was_not_done():
    text = methods(results(), info() | {"simulation": None, "training": None})
    assert "replica exchange" not in text
    assert "trained by" not in text
    assert "None" not in text
    assert methods({}, {}) == ""


def test_stages_that_keep_their_last_weights_do_not_stop_early():
    last = {"name": "nll+kl", "steps": 200, "keep": "last"}
    training = {"parameters": 10, "stages": [*info()["training"]["stages"], last]}
    both = methods(results(), info() | {"training": training})
    assert (
        "maximum likelihood (up to 1000 steps), then maximum likelihood with reverse KL divergence (200 steps)" in both
    )
    assert "schedule, an exponential moving average of the weights and early stopping on held-out frames." in both
    alone = methods(results(), info() | {"training": training | {"stages": [last]}})
    assert "schedule and an exponential moving average of the weights." in alone


def test_cutoff_vacuum_and_repairs_are_stated():
    changed = info()["system"] | {"cutoff": 2.0, "solvent": "vacuum", "changes": ["added 3 hydrogens to residue 4"]}
    text = methods(results(), {"system": changed})
    assert "cutoff of 2 nm" in text
    assert "in vacuum" in text
    assert "added 3 hydrogens to residue 4." in text


def test_imported_data_are_not_called_simulation():
    assert "given by the user" in methods(results(), info() | {"simulation": None})
