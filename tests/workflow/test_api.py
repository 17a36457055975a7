from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gibbsian as gb
from conftest import TINY
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.errors import InputError

SECTIONS: dict[str, Any] = {name: TINY[name] for name in ("model", "stages", "training")}


@pytest.fixture(scope="module")
def system() -> gb.System:
    return gb.System.from_sequence("ACE-GLY-NME", "amber14", "obc2", temperature=320.0)


@pytest.fixture(scope="module")
def data(system: gb.System) -> gb.Ensemble:
    tiny = {**TINY["data"], "temperatures": (320.0, 420.0, 550.0, 700.0)}
    return gb.simulate(system, ExchangeSettings(**tiny))


def test_simulate_fit_sample_give_a_weighted_ensemble(system: gb.System, data: gb.Ensemble, tmp_path: Path) -> None:
    flow = gb.fit(system, data, settings=SECTIONS, folder=tmp_path / "model")
    ensemble = gb.sample(flow, system, n=500)
    assert len(ensemble) == 500
    assert ensemble.temperature == 320.0
    assert 1.0 <= ensemble.ess <= 500.0
    assert ensemble.log_q is not None
    assert ensemble.u is not None
    np.testing.assert_allclose(ensemble.log_w, -ensemble.u - ensemble.log_q, atol=1e-9)
    # The same folder and settings give the trained flow back without training.
    again = gb.sample(gb.fit(system, data, settings=SECTIONS, folder=tmp_path / "model"), system, n=500)
    np.testing.assert_array_equal(again.log_w, ensemble.log_w)


def test_unknown_method_and_setting_are_refused(system: gb.System, data: gb.Ensemble) -> None:
    with pytest.raises(InputError, match="the methods are snis"):
        gb.sample(None, system, method="magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="did you mean stages"):
        gb.fit(system, data, settings={"stage": []})
