import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_flows import SMALL, fitted, metropolis
from torch import Tensor

from gibbsian.chem.residues import symmetry_groups
from gibbsian.chem.topology import Topology
from gibbsian.coords.permutations import random_relabelling
from gibbsian.models.labels import Labels
from gibbsian.models.registry import load_flow

METHYL = Topology(
    atom_names=("C1", "C2", "F1", "H1", "H2", "H3"),
    elements=("C", "C", "F", "H", "H", "H"),
    residue_index=np.zeros(6, dtype=np.int64),
    residue_names=("MOL",),
    residue_ids=("1",),
    bonds=np.array([[0, 1], [1, 2], [0, 3], [0, 4], [0, 5]]),
)


class Rotor:
    """A stiff molecule whose methyl group hops between three equal wells; mirror images are shut out."""

    n_atoms = 6
    ideal = torch.tensor(
        [[0.0, 0, 0], [0.15, 0, 0], [0.2, 0.14, 0], [-0.04, -0.1, 0], [-0.04, 0.05, 0.087], [-0.04, 0.05, -0.087]]
    ).double()

    def u(self, x: Tensor) -> Tensor:
        i, j = torch.tensor([[0, 1], [1, 2], [0, 2], *([0, k] for k in (3, 4, 5)), *([1, k] for k in (3, 4, 5))]).T
        i, j = torch.cat([i, torch.tensor([3, 3, 4])]), torch.cat([j, torch.tensor([4, 5, 5])])
        wanted = (self.ideal[i] - self.ideal[j]).norm(dim=-1)
        stretch = 0.5 * (((x[:, i] - x[:, j]).norm(dim=-1) - wanted) / 0.006).square().sum(-1)
        labels = Labels.stored(METHYL, torch.full((1,), math.pi, dtype=torch.float64))
        right = torch.linalg.det(x[:, 3:] - x[:, :1]) * torch.linalg.det(self.ideal[3:]) > 0
        hops = torch.cos(3.0 * labels._torsions(x)[:, 0].double()).mean(-1)
        return torch.where(right, stretch + hops, torch.inf)

    def u_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@pytest.mark.physics
def test_one_labelling_has_the_log_z_of_all_of_them():
    target, g = Rotor(), torch.Generator().manual_seed(0)
    data = metropolis(target, 4000)
    data = random_relabelling(data, symmetry_groups(METHYL), g)
    found = {}
    for one in (True, False):
        config = replace(SMALL, gauge="local", map="spline", bins=8, hidden=16, start=True, one_labelling=one)
        made = fitted(data, config, topology=METHYL, steps=200)
        with torch.no_grad():
            x, log_q = made.sample(20_000, g)
            w = torch.exp(-target.u(x) - log_q)
        assert bool(torch.isfinite(log_q).all()) != one, "some draws leave their domain"
        w = torch.where(torch.isfinite(log_q), w, 0.0)
        found[one] = (float(w.mean()), float(w.std()) / math.sqrt(len(w)))
    (a, error_a), (b, error_b) = found[True], found[False]
    assert error_a / a < 0.1
    assert error_b / b < 0.1
    assert abs(math.log(a / b)) < 4 * math.hypot(error_a / a, error_b / b)


def test_density_of_one_labelling_is_the_same_for_all(tmp_path):
    target = Rotor()
    data = metropolis(target, 500)
    made = fitted(data, replace(SMALL, gauge="local", one_labelling=True), topology=METHYL, steps=5)
    labels = made.labels
    assert labels is not None
    assert labels.log_number == pytest.approx(math.log(3.0))
    turned = data[:, [0, 1, 2, 4, 5, 3]]
    with torch.no_grad():
        assert torch.equal(made.log_prob(turned), made.log_prob(data))
    assert torch.equal(labels.relabelled(turned), labels.relabelled(data))
    assert bool(labels.hold(labels.relabelled(data)).all())
    assert int(labels.hold(data).sum()) + int(labels.hold(turned).sum()) <= len(data)
    x, log_q = made.sample(200, torch.Generator().manual_seed(0))
    held = torch.isfinite(log_q)
    assert torch.equal(held, labels.hold(x))
    with torch.no_grad():
        assert torch.equal(log_q[held], made.log_prob(x)[held])
        _, path = made.rsample(200, torch.Generator().manual_seed(0))
        assert torch.allclose(path[held], log_q[held], atol=1e-3)
        assert torch.equal(torch.isfinite(path), held)
    made.save(tmp_path / "flow.safetensors")
    again, log_again = load_flow(tmp_path / "flow.safetensors").sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(again, x)
    assert torch.equal(log_again, log_q)
