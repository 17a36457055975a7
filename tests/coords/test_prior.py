"""Conformations of the prior: free torsions, stiff bonds, the handedness of the structure."""

import math

import pytest
import torch

import gibbsian as gb
from gibbsian.coords.internal import InternalCoordinates
from gibbsian.coords.prior import BOND_STIFFNESS, draw_prior
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.targets.handed import Handed
from gibbsian.units import kt


def test_the_prior_frees_torsions_and_keeps_bonds_and_handedness():
    system = gb.System.from_sequence("ACE-THR-NME")
    start = torch.from_numpy(system.positions)
    x = draw_prior(system.topology, start, 300.0, 2_000, torch.Generator().manual_seed(0))
    coordinates = InternalCoordinates(system.topology)
    y, _ = coordinates.forward(x)
    reference, _ = coordinates.forward(start[None])
    spread = (y.bonds - reference.bonds).std(0)
    assert spread.numpy() == pytest.approx(math.sqrt(kt(300.0) / BOND_STIFFNESS), rel=0.1)
    free = torch.tensor([kind == "proper" for kind in coordinates.zmatrix.kinds])
    around = torch.stack([torch.cos(y.torsions[:, free]), torch.sin(y.torsions[:, free])]).mean(1)
    assert float(around.abs().max()) < 4 * math.sqrt(0.5 / len(x))
    right = Handed(Boltzmann(gb.potential(system), 300.0), system.topology, start).right(x)
    assert float(right.double().mean()) > 0.999
    assert float(x.mean(1).abs().max()) < 1e-12
