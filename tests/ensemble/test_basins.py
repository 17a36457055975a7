import mdtraj
import numpy as np
import pytest

from gibbsian.ensemble.basins import basin_masks, classify
from gibbsian.ensemble.export import to_mdtraj
from gibbsian.ensemble.geometry import backbone, dihedral, phi_psi, ramachandran
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def random_angles(n: int, m: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-np.pi, np.pi, (2, n, m))


def test_torsions_are_those_built_in():
    phi, psi = random_angles(20, 3)
    topology, x = backbone_topology(3), backbone_positions(phi, psi)
    assert np.allclose(phi_psi(topology, x), np.concatenate([phi, psi], axis=1), atol=1e-5)
    residues, angles = ramachandran(topology, x)
    assert residues.tolist() == [1, 2, 3]
    assert np.allclose(angles, np.stack([phi, psi], axis=-1), atol=1e-5)


def test_torsions_equal_mdtraj():
    topology, x = backbone_topology(2), backbone_positions(*random_angles(10, 2))
    trajectory = mdtraj.Trajectory(x, to_mdtraj(topology))
    atoms = backbone(topology)
    assert np.allclose(dihedral(x, atoms.phi), mdtraj.compute_phi(trajectory)[1], atol=1e-4)
    assert np.allclose(dihedral(x, atoms.psi), mdtraj.compute_psi(trajectory)[1], atol=1e-4)
    omega = dihedral(x, atoms.omega)
    assert omega.shape == (10, 3)
    assert np.allclose(np.abs(omega), np.pi, atol=1e-3)
    assert (omega > -np.pi).all()


@pytest.mark.parametrize(
    ("phi", "psi", "name"),
    [
        (60, 40, "left"),
        (125, -170, "left"),
        (-60, -40, "alpha"),
        (-60, -120, "alpha"),
        (130, 0, "alpha"),
        (-60, 34, "beta"),
        (-60, 140, "beta"),
        (-60, -121, "beta"),
        (180, 180, "beta"),
        (0, 0, "alpha"),
    ],
)
def test_borders(phi, psi, name):
    masks = classify(np.radians([phi]), np.radians([psi]))
    assert [key for key, mask in masks.items() if mask[0]] == [name]


def test_masks_are_named_and_complete():
    topology, x = backbone_topology(2), backbone_positions(*random_angles(200, 2))
    masks = basin_masks(topology, x)
    assert list(masks) == [f"ALA{r} {b}" for r in (2, 3) for b in ("left", "alpha", "beta")]
    for residue in ("ALA2", "ALA3"):
        assert (sum(masks[f"{residue} {b}"].astype(int) for b in ("left", "alpha", "beta")) == 1).all()
    assert masks["ALA2 left"].mean() == pytest.approx(126 / 360, abs=0.1)
