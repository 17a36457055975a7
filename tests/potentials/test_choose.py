"""The choice of an engine, and the comparison of engines."""

import logging
from dataclasses import replace

import openmm as mm
import pytest
import torch

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.kernels import is_built
from gibbsian.potentials import CompiledPotential, TorchPotential, potential
from gibbsian.potentials.compare import compare_engines, displaced
from gibbsian.potentials.openmm import OpenMMPotential


@pytest.fixture(scope="module")
def system() -> System:
    return System.from_sequence("ACE-GLY-NME")


@pytest.fixture(scope="module")
def strange(system: System) -> System:
    """The same with a force that nothing translates."""
    openmm_system = mm.XmlSerializer.clone(system.openmm_system)
    openmm_system.addForce(mm.CustomExternalForce("0*x"))
    return replace(system, openmm_system=openmm_system)


def test_compiled_is_the_default(system: System) -> None:
    engine = potential(system, dtype=torch.float32, threads=1)
    assert isinstance(engine, CompiledPotential)
    assert (engine.dtype, engine.threads) == (torch.float32, 1)


def test_torch_without_a_compiler(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gibbsian.kernels.find_spec", lambda name: None)
    monkeypatch.setattr("gibbsian.potentials.choose.is_built", is_built)
    assert isinstance(potential(system), TorchPotential)
    with pytest.raises(InputError, match="not built"):
        potential(system, engine="compiled")


def test_fallback_is_announced_once(strange: System, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = potential(strange)
    assert isinstance(engine, OpenMMPotential)
    assert len(caplog.records) == 1
    assert "CustomExternalForce" in caplog.text
    assert "times slower" in caplog.text


def test_engines_that_cannot(system: System, strange: System) -> None:
    with pytest.raises(InputError, match="available are auto, compiled, triton, torch, openmm"):
        potential(system, engine="fast")
    for engine in ("compiled", "torch"):
        with pytest.raises(InputError, match="CustomExternalForce"):
            potential(strange, engine=engine)


def test_engines_agree(system: System, strange: System) -> None:
    frames = displaced(system, 2)
    rows = compare_engines(system, frames)
    for engine in ("torch float64", "compiled float64", "torch float32", "compiled float32"):
        assert [row.frames for row in rows if row.engine == engine] == list(frames)
    for row in rows:
        assert max(row.energy, row.force) <= (1e-7 if "float64" in row.engine else 1e-4)
    assert compare_engines(strange, frames)[0].note == "only OpenMM knows CustomExternalForce"
