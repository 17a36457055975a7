import numpy as np
import torch

from gibbsian.chem.topology import Topology
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.targets.handed import Handed
from gibbsian.testing.toys import HarmonicMolecule

METHANE = Topology(
    atom_names=("C", "H1", "H2", "H3", "H4"),
    elements=("C", "H", "H", "H", "H"),
    residue_index=np.zeros(5, dtype=np.int64),
    residue_names=("MOL",),
    residue_ids=("1",),
    bonds=np.array([[0, 1], [0, 2], [0, 3], [0, 4]]),
)
X = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double() / 16


def test_mirror_images_and_exchanged_hydrogens_have_weight_zero():
    whole = Boltzmann(HarmonicMolecule(5), 300.0)
    target = Handed(whole, METHANE, X)
    mirrored = X * torch.tensor([1.0, 1.0, -1.0])
    cyclic, exchanged = X[[0, 2, 3, 1, 4]], X[[0, 2, 1, 3, 4]]
    x = torch.stack([X, mirrored, cyclic, exchanged])
    assert target.right(x).tolist() == [True, False, True, False]
    u, grad = target.u_and_grad(x)
    assert torch.equal(u, target.u(x))
    assert torch.isfinite(u).tolist() == [True, False, True, False]
    assert torch.equal(u[0], whole.u(x)[0])
    assert torch.equal(grad[0], whole.u_and_grad(x)[1][0])
    assert bool((grad[1] == 0).all())
    assert target.calls == whole.calls


def test_a_molecule_without_centres_is_never_restricted():
    plain = Topology(("C", "O"), ("C", "O"), np.zeros(2, dtype=np.int64), ("MOL",), ("1",), np.array([[0, 1]]))
    target = Handed(Boltzmann(HarmonicMolecule(2), 300.0), plain, X[:2])
    assert target.right(torch.randn(4, 2, 3)).all()
