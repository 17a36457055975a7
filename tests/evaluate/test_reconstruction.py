from functools import cache

import pytest
import torch
from torch import Tensor

from gibbsian.chem.library import built_in
from gibbsian.coords.reduced import ReducedCoordinates
from gibbsian.errors import InputError
from gibbsian.evaluate.reconstruction import Reconstruction, reconstruction
from gibbsian.models.completion_fit import harmonic
from gibbsian.potentials import potential
from gibbsian.units import kt


@cache
def frames(n: int = 40) -> tuple[ReducedCoordinates, Tensor]:
    """Dialanine near one conformation with thermal bonds, angles and deltas."""
    system = built_in("ACE-ALA-NME")
    coordinates = ReducedCoordinates(system.topology)
    y, c = coordinates.from_x(torch.from_numpy(system.positions).double()[None].repeat(n, 1, 1))
    g = torch.Generator().manual_seed(0)
    y = y + 0.1 * torch.randn(y.shape, generator=g, dtype=torch.float64)
    assert system.parameters is not None
    c, _ = harmonic(coordinates, system.parameters, c[0], 300.0).sample(y, g)
    return coordinates, coordinates.to_x(y, c)


@cache
def found() -> Reconstruction:
    coordinates, x = frames()
    return reconstruction(coordinates, x, coordinates.mean_frozen(x), potential(built_in("ACE-ALA-NME")), 300.0)


def test_energy_falls_by_half_a_kt_for_each_frozen_coordinate_and_every_class_contributes():
    result = found()
    assert result.n == 40
    assert -50.0 < result.rebuilt.shift < -12.0
    assert list(result.alone) == ["bonds", "angles", "deltas"]
    for part in result.alone.values():
        assert result.rebuilt.shift < part.shift < -1.0
        assert part.spread > 0.5
    assert result.rebuilt.rmsd["heavy"][1] > result.rebuilt.rmsd["heavy"][0] > 0.002
    assert result.alone["angles"].rmsd["backbone"][1] < 1e-9
    assert result.alone["bonds"].rmsd["backbone"][0] > 1e-4
    assert "ca" not in result.rebuilt.rmsd  # one atom has no shape
    assert abs(result.minimised.shift) < 0.2 * abs(result.rebuilt.shift)
    assert -1.0 <= result.rebuilt.correlation < result.minimised.correlation <= 1.0
    assert result.rebuilt.clashes == (0.0, 0.0)


def test_the_spread_is_in_kt_and_a_wide_one_is_said_in_a_sentence():
    coordinates, x = frames()
    result, engine = found(), potential(built_in("ACE-ALA-NME"))
    rebuilt = coordinates.to_x(coordinates.from_x(x)[0], coordinates.mean_frozen(x))
    change = (engine.energy(rebuilt) - engine.energy(x)) / kt(300.0)
    assert result.rebuilt.spread == pytest.approx(float(change.std()), rel=1e-6)
    assert result.sentence is not None
    assert f"{result.rebuilt.spread:.1f} kT" in result.sentence
    assert result.source in result.sentence
    cold = reconstruction(coordinates, x, coordinates.mean_frozen(x), engine, 3e5)
    assert cold.sentence is None


def test_frames_with_the_mean_already_in_them_do_not_change():
    coordinates, x = frames()
    c0 = coordinates.mean_frozen(x)
    x = coordinates.to_x(coordinates.from_x(x)[0], c0)
    result = reconstruction(coordinates, x, c0, potential(built_in("ACE-ALA-NME")), 300.0)
    assert abs(result.rebuilt.shift) + result.rebuilt.spread < 1e-6
    assert result.rebuilt.rmsd["heavy"][1] < 1e-8


def test_one_frame_is_refused():
    coordinates, x = frames()
    with pytest.raises(InputError, match="1 conformations; give at least 2"):
        reconstruction(coordinates, x[:1], coordinates.mean_frozen(x), potential(built_in("ACE-ALA-NME")), 300.0)
