"""The choice of an engine, and the comparison of engines."""

import logging
from dataclasses import replace

import openmm as mm
import pytest
import torch

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.potentials import TorchPotential, potential
from gibbsian.potentials.compare import NOISE, compare_engines
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


def test_torch_is_the_default(system: System) -> None:
    engine = potential(system, dtype=torch.float32)
    assert isinstance(engine, TorchPotential)
    assert engine.dtype == torch.float32


def test_fallback_is_announced_once(strange: System, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = potential(strange)
    assert isinstance(engine, OpenMMPotential)
    assert len(caplog.records) == 1
    assert "CustomExternalForce" in caplog.text
    assert "times slower" in caplog.text


def test_engines_that_cannot(system: System, strange: System) -> None:
    with pytest.raises(InputError, match="available are auto, torch, openmm"):
        potential(system, engine="compiled")
    with pytest.raises(InputError, match="CustomExternalForce"):
        potential(strange, engine="torch")


def test_engines_agree(system: System, strange: System) -> None:
    rows = compare_engines(system, n_frames=2)
    assert [row.noise for row in rows if row.engine == "torch float64"] == list(NOISE)
    for row in rows:
        assert max(row.energy, row.force) <= (1e-7 if row.engine == "torch float64" else 1e-4)
    assert compare_engines(strange)[0].note == "only OpenMM knows CustomExternalForce"
