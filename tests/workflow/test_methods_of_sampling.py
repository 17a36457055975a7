import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import TINY
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.workflow.drawing import draw, method_settings
from gibbsian.workflow.run import open_run, perform
from gibbsian.workflow.settings import resolve_settings
from gibbsian.workflow.stages import STAGES

METHODS: dict[str, dict[str, Any]] = {
    "smc": {"method": "smc", "n": 500, "smc": {"levels": 4, "conditional_ess": None, "truncation": {"clip": 0.01}}},
    "exchange": {
        "method": "exchange",
        "n": 80,
        "exchange": {"ladders": 4, "n_temperatures": 2, "t_max": 360.0, "equilibration": 5, "n_leapfrog": 3},
    },
}


@pytest.mark.slow
def test_one_run_folder_takes_every_method(tmp_path: Path) -> None:
    for name, sampling in METHODS.items():
        settings = {**TINY, "sampling": sampling}
        with open_run(settings, tmp_path / "run", "test") as run:
            perform(run, STAGES)
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        samples = Ensemble.load(tmp_path / "run" / "samples")
        assert samples.provenance["method"] == results["samples"]["method"] == name
        assert results["samples"]["proposed"] == sampling["n"] == len(samples)
        assert results["ess"]["count"] == pytest.approx(min(samples.ess, samples.provenance["effective"]))
        assert results["samples"]["clipped"] == (5 if name == "smc" else 0)
        assert (results["log_z"] is None) == (name == "exchange")
        assert results["samples"]["exact"]
        page = (tmp_path / "run" / "report.html").read_text()
        assert ("sequential Monte Carlo" in page) == (name == "smc")
        assert ("replica exchange with exact Metropolis moves" in page) == (name == "exchange")


def test_settings_of_methods_in_a_run() -> None:
    resolved = resolve_settings({"system": {"source": "AAA"}, "sampling": {"smc": {"kernel": "rwm"}}})
    assert resolved.sampling.method == "snis"
    assert resolved.sampling.smc.kernel == "rwm"
    assert yaml.safe_load(yaml.safe_dump(resolved.model_dump(mode="json")))["sampling"]["smc"]["kernel"] == "rwm"
    with pytest.raises(InputError, match=r"sampling\.smc\.kernel"):
        resolve_settings({"system": {"source": "AAA"}, "sampling": {"smc": {"kernel": "magic"}}})
    with pytest.raises(InputError, match="did you mean threshold"):
        resolve_settings({"system": {"source": "AAA"}, "sampling": {"smc": {"treshold": 0.3}}})
    with pytest.raises(InputError, match="until_ess"):
        draw(None, None, 5, method="smc", topology=None, temperature=300.0, until_ess=3.0)  # type: ignore[arg-type]
    assert method_settings("smc", {"moves": 2}) == method_settings("smc", method_settings("smc", {"moves": 2}))
    assert resolved.sampling.langevin.weights == "path"
    with pytest.raises(InputError, match="settings: weights"):
        method_settings("langevin", {"weights": "hutchinson"})
