from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gibbsian as gb
from conftest import TINY
from gibbsian.dynamics.exchange import ExchangeSettings
from gibbsian.errors import InputError
from gibbsian.evaluate.results import evaluate
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.sampling.swap import SwapSettings

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
    with pytest.raises(InputError, match="the methods are snis, smc, exchange"):
        gb.sample(None, system, method="magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="did you mean stages"):
        gb.fit(system, data, settings={"stage": []})


def test_annealing_and_exchange_take_the_same_flow(system: gb.System, data: gb.Ensemble, tmp_path: Path) -> None:
    flow = gb.fit(system, data, settings=SECTIONS, folder=tmp_path / "model")
    plain = gb.sample(flow, system, n=300)
    levels = {"levels": 6, "conditional_ess": None}
    annealed = gb.sample(flow, system, n=300, method="smc", settings=levels, folder=tmp_path / "smc")
    assert annealed.u is not None
    assert plain.u is not None
    assert annealed.weights @ annealed.u < plain.u.mean()
    assert annealed.provenance["proposal_ess"] == pytest.approx(plain.ess, rel=1e-6)
    assert annealed.log_z.error > 0
    assert [round(level["t"], 6) for level in annealed.provenance["levels"]] == [round(k / 6, 6) for k in range(1, 7)]
    again = gb.sample(flow, system, n=300, method="smc", settings=levels, folder=tmp_path / "smc")
    np.testing.assert_array_equal(again.log_w, annealed.log_w)
    settings = SwapSettings(ladders=4, n_temperatures=2, t_max=380.0, equilibration=5, n_leapfrog=3)
    chain = gb.sample(flow, system, n=40, method="exchange", settings=settings)
    assert (chain.log_w == 0).all()
    assert chain.provenance["effective"] <= 40
    assert evaluate(chain, data=data)["ess"]["count"] == pytest.approx(chain.provenance["effective"])


def test_clipping_is_told(system: gb.System, data: gb.Ensemble) -> None:
    flow = gb.fit(system, data, settings=SECTIONS)
    clipped = gb.sample(flow, system, n=500, settings={"clip": 0.01})
    results = evaluate(clipped, data=data)
    assert results["samples"]["clipped"] == 5
    assert results["samples"]["clipped_fraction"] == 0.01
    assert results["samples"]["ess_unclipped"] == pytest.approx(gb.sample(flow, system, n=500).ess)


def test_settings_of_methods_are_checked(system: gb.System) -> None:
    with pytest.raises(InputError, match="unknown key kernels"):
        gb.sample(None, system, method="smc", settings={"kernels": 1})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="method exchange takes SwapSettings"):
        gb.sample(None, system, method="exchange", settings=SmcSettings())  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="threshold"):
        gb.sample(None, system, method="smc", settings={"threshold": "much"})  # pyright: ignore[reportArgumentType]
