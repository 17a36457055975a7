import numpy as np
import pytest

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.errors import InputError
from gibbsian.evaluate.observables import averages, distance, observables, radius_of_gyration, torsions
from gibbsian.testing.backbone import backbone_positions, backbone_topology


def test_names_and_values():
    angles = np.random.default_rng(0).uniform(-3, 3, (2, 9, 2))
    topology, x = backbone_topology(2), backbone_positions(*angles)
    found = observables(topology, x, pairs=[(0, 9)])
    assert list(found) == [
        *("phi ALA2", "phi ALA3", "psi ALA2", "psi ALA3", "omega ALA2", "omega ALA3", "omega NME4"),
        *("radius of gyration", "end-to-end distance", "distance ACE1:CH3-NME4:C"),
    ]
    assert np.allclose(found["phi ALA3"].values, angles[0][:, 1], atol=1e-4)
    assert np.allclose(found["psi ALA2"].values, angles[1][:, 0], atol=1e-4)
    assert np.allclose(found["end-to-end distance"].values, distance(x, 3, 6))
    with pytest.raises(InputError, match="atoms 0 to 9"):
        observables(topology, x, pairs=[(0, 10)])


def test_chi_of_a_side_chain():
    topology = Topology(
        atom_names=("N", "CA", "CB", "OG"),
        elements=("N", "C", "C", "O"),
        residue_index=np.zeros(4, dtype=np.int64),
        residue_names=("SER",),
        residue_ids=("7",),
        bonds=np.array([(0, 1), (1, 2), (2, 3)]),
    )
    named = torsions(topology)
    assert {name: atoms.tolist() for name, atoms in named.items()} == {"chi1 SER7": [0, 1, 2, 3]}


def test_radius_of_gyration_is_mass_weighted():
    topology = Topology(("C", "H"), ("C", "H"), np.zeros(2, np.int64), ("X",), ("1",), np.array([(0, 1)]))
    x = np.array([[[0.0, 0, 0], [1.0, 0, 0]]])
    c, h = 12.011, 1.008
    assert radius_of_gyration(topology, x)[0] == pytest.approx(np.sqrt(c * h) / (c + h))
    odd = Topology(("C", "Q"), ("C", "Qq"), np.zeros(2, np.int64), ("X",), ("1",), np.array([(0, 1)]))
    with pytest.raises(InputError, match="'Qq'"):
        radius_of_gyration(odd, x)


def test_averages_are_weighted_and_circular():
    phi = np.array([[3.0], [-3.0], [0.0]])
    x = backbone_positions(phi, phi)
    topology = backbone_topology(1)
    ensemble = Ensemble(x, np.array([0.0, 0.0, -np.inf]), topology, 300.0)
    rows = {row["name"]: row for row in averages(ensemble, observables(topology, x))}
    assert abs(rows["phi ALA2"]["value"]) == pytest.approx(np.pi, abs=1e-4)
    assert rows["phi ALA2"]["unit"] == "rad"
    gyration = radius_of_gyration(topology, x)
    assert rows["radius of gyration"]["value"] == pytest.approx(gyration[:2].mean())
