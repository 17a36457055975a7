import numpy as np
from chem_helpers import all_residues, energy

from gibbsian.chem.hydrogens import place_hydrogens, relabel_hydrogens
from gibbsian.chem.residues import hydrogens_of


def test_shuffled_labels_come_back_up_to_rotations():
    topology, x = all_residues().topology, all_residues().positions
    rng = np.random.default_rng(1)
    shuffled = np.repeat(x[None], 8, axis=0)
    threes = []
    for atom in range(topology.n_atoms):
        hydrogens = hydrogens_of(topology, atom)
        if len(hydrogens) == 3:
            threes.append(hydrogens)
        for k in range(8 if hydrogens else 0):
            shuffled[k, hydrogens] = x[rng.permutation(hydrogens)]
    assert np.abs(shuffled - x).max() > 0.1
    back = relabel_hydrogens(topology, shuffled)
    free = np.ones(topology.n_atoms, dtype=bool)
    free[[i for three in threes for i in three]] = False
    np.testing.assert_array_equal(back[:, free], np.broadcast_to(x[free], back[:, free].shape))
    for a, b, c in threes:
        for y in back:
            rotations = [y[[a, b, c]], y[[b, c, a]], y[[c, a, b]]]
            assert any((r == x[[a, b, c]]).all() for r in rotations)


def test_relabelling_is_idempotent_keeps_type_and_input():
    topology, x = all_residues().topology, all_residues().positions.astype(np.float32)
    mirrored = x * np.array([1, 1, -1], dtype=np.float32)
    copy = mirrored.copy()
    once = relabel_hydrogens(topology, mirrored)
    assert once.dtype == np.float32
    np.testing.assert_array_equal(mirrored, copy)
    np.testing.assert_array_equal(relabel_hydrogens(topology, once), once)
    assert (once != mirrored).any()


def test_glycine_ha2_is_pro_r():
    topology, x = all_residues().topology, all_residues().positions
    residue = topology.residue_names.index("GLY")
    ca, n, c, ha2 = (x[topology.find(residue, name)] for name in ("CA", "N", "C", "HA2"))
    assert np.dot(np.cross(n - ca, c - ca), ha2 - ca) < 0


def test_placed_hydrogens_do_not_depend_on_where_they_were():
    system = all_residues()
    hydrogens = [i for i, e in enumerate(system.topology.elements) if e == "H"]
    noisy = system.positions.copy()
    noisy[hydrogens] += np.random.default_rng(2).standard_normal((len(hydrogens), 3))
    first = place_hydrogens(system.topology, system.positions, hydrogens)
    np.testing.assert_array_equal(place_hydrogens(system.topology, noisy, hydrogens), first)
    lengths = [np.linalg.norm(first[i] - first[system.topology.neighbours[i][0]]) for i in hydrogens]
    assert min(lengths) > 0.095
    assert max(lengths) < 0.135
    assert energy(system, first) < energy(system) + 2000.0
