"""Annealing from a Cartesian flow: the centre of mass stays confined, or free, by its gauge, and log Z is right."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gibbsian.chem.topology import Topology
from gibbsian.coords.frame import to_frame
from gibbsian.models.tarflow import TarFlow
from gibbsian.models.tarflow_config import TarFlowConfig
from gibbsian.sampling.smc import sample_smc
from gibbsian.sampling.smc_state import SmcSettings
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.testing.toys import HarmonicMolecule
from gibbsian.units import kt

CONFIG = TarFlowConfig(blocks=2, depth=1, width=16, head=8, frame=(1, 0, 2))
STAR = Topology(("C1", "C2", "C3", "C4"), ("C",) * 4, np.zeros(4, dtype=np.int64), ("MOL",), ("1",),
                np.array([[0, 1], [0, 2], [0, 3]]))  # fmt: skip
MOLECULE = HarmonicMolecule(4, k=200.0)


def untrained(gauge: str) -> TarFlow:
    """Scales of conformations twice as wide as those of the target, and a little noise in the weights."""
    width = 2.0 * math.sqrt(kt(300.0) / (MOLECULE.k * 4))
    x = width * torch.randn(4000, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    body: Tensor = to_frame(x, (1, 0, 2))
    flow = TarFlow.from_data(STAR, x[body[:, 2, 1] > 0.051], config=replace(CONFIG, gauge=gauge))
    with torch.no_grad():
        for block in flow.blocks:
            block.map.out.weight += 0.03 * torch.randn(block.map.out.weight.shape)  # type: ignore[union-attr]
    return flow


@pytest.mark.physics
@pytest.mark.parametrize(("gauge", "regen"), [("soft", None), ("frame", None), ("frame", "mix")])
def test_log_z_after_annealing(gauge: str, regen: str | None) -> None:
    torch.manual_seed(0)
    settings = SmcSettings(levels=30, conditional_ess=0.9, regen=regen)
    ensemble = sample_smc(
        untrained(gauge), Boltzmann(MOLECULE, 300.0), 2000, topology=STAR, temperature=300.0, settings=settings
    )
    found = ensemble.log_z
    assert found.error < 0.4
    assert abs(found.value - MOLECULE.log_z(300.0)) < 4 * found.error
    size = ensemble.positions - ensemble.positions.mean(1, keepdims=True)
    square = (ensemble.weights * (size**2).sum((1, 2))).sum()
    assert square == pytest.approx(9 * kt(300.0) / (MOLECULE.k * 4), rel=0.15)
    if gauge == "soft":
        assert np.abs(ensemble.positions.mean(1)).max() < 1.0, "the centre must stay where its law confines it"
