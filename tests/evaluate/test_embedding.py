from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.embedding import Pca, fit_embedding, torsion_features
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def chain(n: int, seed: int = 0, spread: tuple[float, ...] = (0.5, 0.05, 0.2)) -> Ensemble:
    """A chain whose residues move differently in psi; phi stands still."""
    rng = np.random.default_rng(seed)
    psi = rng.normal(0.0, spread, (n, len(spread)))
    x = backbone_positions(np.full_like(psi, -1.1), psi)
    return Ensemble(x, np.zeros(n), backbone_topology(len(spread)), 300.0)


def test_principal_components_are_those_of_the_features():
    data = chain(500)
    pca = fit_embedding(data)
    assert isinstance(pca, Pca)
    features = torsion_features(data.topology, data.positions)
    assert features.shape == (500, 12)
    values = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    assert pca.explained == pytest.approx(values[:2] / values.sum())
    points = pca.transform(features)
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=1e-10)
    assert points.var(axis=0) == pytest.approx(values[:2] / 500)
    psi_first = 3  # sine of psi of the residue that moves most
    assert pca.axes[:, 0].argmax() == 6 + psi_first


def test_weights_count_and_only_training_data_are_seen():
    data, other = chain(300), chain(300, seed=1, spread=(0.05, 0.6, 0.2))
    both = Ensemble(
        np.concatenate([data.positions, other.positions]),
        np.where(np.arange(600) < 300, 0.0, -np.inf),
        data.topology,
        300.0,
    )
    first, second = fit_embedding(data), fit_embedding(both)
    assert isinstance(first, Pca)
    assert isinstance(second, Pca)
    assert second.axes == pytest.approx(first.axes)
    assert second.mean == pytest.approx(first.mean)


def test_what_cannot_be_embedded_is_refused():
    with pytest.raises(InputError, match="'tsne' is unknown"):
        fit_embedding(chain(10), "tsne")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="hardly move"):
        fit_embedding(chain(10, spread=(0.0,)))


def test_umap_says_how_to_install_it_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("gibbsian.evaluate.embedding.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'gibbsian\[umap\]'"):
        fit_embedding(chain(10), "umap")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is optional")
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_two_states_apart():
    first, second = chain(150), chain(150, seed=1)
    moved = backbone_positions(
        np.full((150, 3), 1.0), np.full((150, 3), 2.0) + 0.05 * np.random.default_rng(2).random((150, 3))
    )
    both = replace(first, positions=np.concatenate([first.positions, moved.astype(np.float32)]), log_w=np.zeros(300))
    fitted = fit_embedding(both, "umap")
    here, there, again = (
        fitted.transform(torsion_features(first.topology, x)) for x in (first.positions, moved, second.positions)
    )
    centres = here.mean(axis=0), there.mean(axis=0)
    assert (np.linalg.norm(again - centres[0], axis=1) < np.linalg.norm(again - centres[1], axis=1)).mean() > 0.95
