import numpy as np

from gibbsian.chem.library import built_in
from gibbsian.ensemble.secondary import kept_structure, secondary_structure


def test_protein_g_has_its_helix_and_four_strands() -> None:
    system = built_in("protein-G")
    found = "".join(secondary_structure(system.topology, system.positions[None])[0])
    assert found[22:36] == "H" * 14  # residues 23 to 36 of 1PGA
    strands = [part for part in found.replace("H", "C").split("C") if len(part) >= 4]
    assert len(strands) == 4


def test_shares_of_a_structure_count_what_is_kept() -> None:
    system = built_in("protein-G")
    x = np.stack([system.positions, system.positions * np.array([1.0, 1.0, 3.0])])
    kept = kept_structure(system.topology, x, system.positions)
    assert kept[0] == 1.0
    assert kept[1] < 0.5


def test_what_has_neither_helix_nor_strand_loses_none() -> None:
    system = built_in("ACE-ALA-NME")
    assert kept_structure(system.topology, system.positions[None], system.positions).tolist() == [1.0]
