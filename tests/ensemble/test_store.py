import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.ensemble.export import export
from gibbsian.ensemble.readers import read_ensemble
from gibbsian.errors import InputError
from gibbsian.testing.backbone import backbone_positions, backbone_topology

TOPOLOGY = backbone_topology(2)


def example(n: int = 40) -> Ensemble:
    rng = np.random.default_rng(0)
    return Ensemble(
        positions=backbone_positions(*rng.uniform(-3, 3, (2, n, 2))),
        log_w=np.where(rng.random(n) < 0.1, -np.inf, rng.normal(size=n)),
        topology=TOPOLOGY,
        temperature=310.0,
        u=np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
        log_q=rng.normal(size=n),
        provenance={"method": "snis", "seed": 3},
    )


def test_round_trip_is_bitwise(tmp_path):
    one = example()
    one.save(tmp_path / "a" / "b")
    two = Ensemble.load(tmp_path / "a" / "b")
    for name in ("positions", "log_w", "u", "log_q"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
        assert getattr(one, name).dtype == getattr(two, name).dtype
    assert two.lineage is None
    assert (two.temperature, two.provenance) == (310.0, one.provenance)
    assert two.topology.to_dict() == TOPOLOGY.to_dict()
    one.take(np.arange(5)).save(tmp_path / "a" / "b")
    assert len(Ensemble.load(tmp_path / "a" / "b")) == 5


def test_draws_travel_along_and_do_not_outlive_their_ensemble(tmp_path):
    annealed = replace(example(20), draws=example(5))
    annealed.save(tmp_path)
    read = Ensemble.load(tmp_path)
    assert read.draws is not None
    assert np.array_equal(read.draws.positions, annealed.draws.positions)
    assert read.take(np.arange(3)).draws is read.draws
    example(20).save(tmp_path)
    assert Ensemble.load(tmp_path).draws is None
    assert not list(tmp_path.glob("draws/*"))


def test_damage_is_named(tmp_path):
    example().save(tmp_path)
    content = (tmp_path / "log_w.npy").read_bytes()
    (tmp_path / "log_w.npy").write_bytes(content[:-8] + b"12345678")
    with pytest.raises(InputError, match=r"log_w\.npy: damaged"):
        Ensemble.load(tmp_path)
    (tmp_path / "log_w.npy").unlink()
    with pytest.raises(InputError, match=r"log_w\.npy: missing"):
        Ensemble.load(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["topology"]
    (tmp_path / "log_w.npy").write_bytes(content)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="incomplete"):
        Ensemble.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        Ensemble.load(tmp_path)
    with pytest.raises(InputError, match="no manifest"):
        Ensemble.load(tmp_path / "nowhere")


def test_shapes_are_checked():
    one = example()
    with pytest.raises(InputError, match="positions"):
        Ensemble(one.positions[:, :-1], one.log_w, TOPOLOGY, 300.0)
    with pytest.raises(InputError, match="log_w"):
        Ensemble(one.positions, one.log_w[:-1], TOPOLOGY, 300.0)


def test_methods():
    one = example()
    assert one.ess == pytest.approx(one.ess_fraction * 40)
    assert one.weights.sum() == pytest.approx(1)
    assert one.expectation(lambda x: np.ones(len(x))) == pytest.approx((1, 0))
    assert one.log_z.error > 0
    for index in (slice(3, 6), [3, 4, 5], np.isin(np.arange(40), [3, 4, 5])):
        assert np.array_equal(one.take(index).u, one.u[3:6])
    simulated = Ensemble(one.positions, one.log_w, TOPOLOGY, 300.0)
    with pytest.raises(InputError, match="log_z"):
        _ = simulated.log_z


def test_export_can_be_read_by_others(tmp_path):
    one = example()
    xtc, pdb = export(one, tmp_path, n=30)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ensemble.xtc", "topology.pdb"]
    read = read_ensemble(xtc, topology=pdb, temperature=310.0)
    assert read.positions.shape == (30, TOPOLOGY.n_atoms, 3)
    bonds = np.linalg.norm(np.diff(read.positions, axis=1), axis=-1)
    assert np.allclose(bonds, np.linalg.norm(np.diff(one.positions[:30], axis=1), axis=-1), atol=3e-3)
    alone = read_ensemble(pdb, temperature=310.0)
    assert alone.topology.atom_names == TOPOLOGY.atom_names


@pytest.mark.parametrize("ending", ["npy", "dcd", "xtc", "h5", "pdb"])
def test_readers(tmp_path, ending):
    import mdtraj

    from gibbsian.ensemble.export import to_mdtraj

    x = example().positions
    path = tmp_path / f"frames.{ending}"
    if ending == "npy":
        np.save(path, x)
    elif ending == "h5":
        pytest.importorskip("tables")
        mdtraj.Trajectory(x, to_mdtraj(TOPOLOGY)).save(str(path))
    else:
        mdtraj.Trajectory(x, to_mdtraj(TOPOLOGY)).save(str(path))
    read = read_ensemble(path, topology=TOPOLOGY, temperature=310.0)
    assert np.allclose(read.positions, x, atol=1e-3)
    assert read.ess == pytest.approx(40)


def test_bad_files(tmp_path):
    x = example().positions

    def refused(content, match, name="x.npy", **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        given = {"topology": TOPOLOGY, "temperature": 300.0} | options
        with pytest.raises(InputError, match=match) as caught:
            read_ensemble(path, **given)
        assert "\n" not in str(caught.value)

    broken = x.copy()
    broken[3, 2, 1] = np.nan
    refused(broken, "frame 3")
    refused(x[:, :-1], "9 atoms, the topology has 10")
    refused(x[:0], "no frames")
    refused(10 * x, "in nm")
    refused(x[0], "shape")
    refused(b"", "empty file")
    refused(b"nonsense", "not readable")
    refused(b"", "empty file", name="x.xtc")
    refused(b"nonsense" * 10, "not readable", name="x.xtc")
    refused(b"nonsense" * 10, "not readable", name="x.dcd")
    refused(b"1", "unknown ending", name="x.gro")
    refused(x, "no topology", topology=None)
    refused(x, "temperature", temperature=None)
    refused(x, "no such topology", topology=tmp_path / "none.pdb")
    with pytest.raises(InputError, match="no such file"):
        read_ensemble(tmp_path / "none.xtc", topology=TOPOLOGY, temperature=300.0)


def test_own_folder_of_another_molecule(tmp_path):
    example().save(tmp_path)
    with pytest.raises(InputError, match="10 atoms, the molecule has 7"):
        read_ensemble(tmp_path, topology=backbone_topology(1))
    with pytest.raises(InputError, match="310 K"):
        read_ensemble(tmp_path, temperature=300.0)
    assert len(read_ensemble(tmp_path, topology=TOPOLOGY, temperature=310.0)) == 40


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tables", None)
    (tmp_path / "x.h5").write_bytes(b"1")
    with pytest.raises(InputError, match="needs the package tables"):
        read_ensemble(tmp_path / "x.h5", topology=TOPOLOGY, temperature=300.0)
