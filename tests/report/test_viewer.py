import numpy as np
from dialanine import topology, weighted
from scipy.spatial.transform import Rotation

from gibbsian.report.viewer import backbone_atoms, representatives, superpose


def test_superposition_undoes_a_rigid_motion():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(12, 3))
    turns = Rotation.random(7, random_state=1).as_matrix()
    moved = shape @ turns + rng.normal(size=(7, 1, 3))
    fitted = superpose(moved, np.arange(5))
    np.testing.assert_allclose(fitted, np.broadcast_to(fitted[0], fitted.shape), atol=1e-10)


def test_superposition_keeps_handedness():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(12, 3))
    both = np.stack([shape, shape * [1, 1, -1]])
    fitted = superpose(both, np.arange(12))
    volume = np.linalg.det(fitted[:, 1:4] - fitted[:, :1])
    assert volume[0] * volume[1] < 0


def test_representatives_follow_the_weights():
    ensemble = weighted(500)
    log_w = np.full(500, -np.inf)
    log_w[[3, 8]] = 0.0
    one_sided = type(ensemble)(ensemble.positions, log_w, ensemble.topology, 300.0)
    assert len(representatives(one_sided, 20)) == 2
    shown = representatives(ensemble, 20)
    assert 10 <= len(shown) <= 20
    np.testing.assert_allclose(shown[:, backbone_atoms(topology())].mean(axis=1), 0, atol=1e-6)
