"""The oracle and its worker pool."""

import pickle

import numpy as np
import pytest
import torch
from molecules import molecule, noisy, oracle

from gibbsian.errors import InputError
from gibbsian.potentials.openmm import OpenMMPotential
from gibbsian.testing.potential import check_potential


def test_conformance_in_process() -> None:
    system, x = molecule("ACE-ALA-NME")
    check_potential(OpenMMPotential(system, workers=1), torch.from_numpy(noisy(x, 2, 0.004)))


def test_pool_gives_the_same_and_ends() -> None:
    system, x = molecule("ACE-ALA-NME")
    frames = torch.from_numpy(noisy(x, 70, 0.02))
    frames[3] = torch.nan
    expected = OpenMMPotential(system, workers=1).energy_and_force(frames)
    with OpenMMPotential(system, workers=2) as potential:
        result = potential.energy_and_force(frames)
        assert potential.calls == 70
    torch.testing.assert_close(result, expected)
    assert torch.isinf(result[0][3])
    assert (result[1][3] == 0).all()


def test_equals_a_plain_context_and_survives_pickling() -> None:
    system, x = molecule("ACE-ALA-NME", "amber14", "obc2")
    potential = pickle.loads(pickle.dumps(OpenMMPotential(system, workers=1)))
    frames = noisy(x, 3, 0.01)
    energy, force = potential.energy_and_force(torch.from_numpy(frames))
    true_energy, true_force = oracle(system, frames)
    np.testing.assert_allclose(energy, true_energy)
    np.testing.assert_allclose(force, true_force)


def test_bad_shape() -> None:
    system, _ = molecule("ACE-ALA-NME")
    with pytest.raises(InputError, match="expected"):
        OpenMMPotential(system, workers=1).energy_and_force(torch.zeros(2, 21, 3))
