import pytest
import torch
from peptides import peptide, random_conformations

from gibbsian.coords.frame import local_axes, to_frame
from gibbsian.coords.gauge import random_rotations
from gibbsian.coords.local import LocalCoordinates

SEQUENCES = ["ACE-ALA-NME", "ACE-PRO-NME", "NALA-TRP-ARG-CALA"]


def test_axes_are_right_handed_and_orthonormal():
    points = torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = torch.stack(local_axes(*points.unbind(1)), -1)
    assert torch.allclose(axes.transpose(1, 2) @ axes, torch.eye(3).double().expand(50, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(axes), torch.ones(50).double(), atol=1e-12)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_there_and_back_without_the_pose(sequence):
    topology = peptide(sequence)
    coordinates = LocalCoordinates(topology)
    x = random_conformations(topology, 20).double()
    local = coordinates.forward(x)
    assert torch.allclose(coordinates.inverse(local), to_frame(x, coordinates.frame), atol=1e-10)
    turned = x @ random_rotations(20, torch.Generator().manual_seed(1)).transpose(1, 2) + 1.0
    assert torch.allclose(coordinates.forward(turned), local, atol=1e-10)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_vectors_are_bonds_and_turning_them_changes_no_volume(sequence):
    topology = peptide(sequence)
    coordinates = LocalCoordinates(topology)
    x = random_conformations(topology, 2).double()
    local = coordinates.forward(x)
    lengths = (x[:, topology.bonds[:, 0]] - x[:, topology.bonds[:, 1]]).norm(dim=-1)
    vectors = local[:, coordinates.atoms[3:]].norm(dim=-1)
    assert float((vectors[:, :, None] - lengths[:, None]).abs().amin(2).max()) < 1e-10
    body = to_frame(x, coordinates.frame)[0]

    def vectors_of(body: torch.Tensor) -> torch.Tensor:
        return coordinates.forward(body[None])[0, coordinates.atoms[3:]]

    jacobian = torch.autograd.functional.jacobian(vectors_of, body)[:, :, coordinates.atoms[3:]]
    size = 3 * (topology.n_atoms - 3)
    assert float(torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet) == pytest.approx(0.0, abs=1e-9)
