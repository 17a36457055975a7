import numpy as np
import torch

from gibbsian.chem.library import built_in
from gibbsian.evaluate.clashes import clash_share, clashes, far_pairs


def test_clashes_are_close_heavy_atoms_far_along_the_chain():
    topology = built_in("ACE-ALA-NME").topology
    pairs = far_pairs(topology)
    a, b = topology.find(0, "CH3"), topology.find(2, "C")
    assert a is not None
    assert b is not None
    wanted = tuple(sorted((a, b)))
    listed = [tuple(pair) for pair in np.sort(pairs, 1).tolist()]
    assert wanted in listed
    assert all(topology.elements[i] != "H" for i in pairs.ravel())
    assert not any(j in topology.neighbours[i] for i, j in listed)
    x = torch.randn(2, topology.n_atoms, 3, generator=torch.Generator().manual_seed(0)) * 100.0
    x[1, a] = x[1, b] + 0.1
    assert clashes(x, torch.from_numpy(pairs)).tolist() == [0, 1]
    assert clash_share(topology, x.numpy()) == 0.5


def test_only_the_selected_atoms_clash():
    system = built_in("chignolin")
    backbone, heavy = (far_pairs(system.topology, atoms) for atoms in ("backbone", "heavy"))
    assert {tuple(pair) for pair in backbone.tolist()} < {tuple(pair) for pair in heavy.tolist()}
    assert clash_share(system.topology, system.positions[None], "backbone") == 0.0
    assert clash_share(system.topology, 0.3 * system.positions[None], "backbone") == 1.0
