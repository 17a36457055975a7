from gibbsian.chem.equivalence import atom_classes, twins_at
from gibbsian.chem.system import System
from gibbsian.chem.topology import Topology


def _names(topology: Topology, residue: int) -> list[set[str]]:
    """Names in every class of several atoms of a residue."""
    classes = atom_classes(topology)
    groups: dict[int, set[str]] = {}
    for atom in topology.atoms_of(residue):
        groups.setdefault(int(classes[atom]), set()).add(topology.atom_names[atom])
    return [names for names in groups.values() if len(names) > 1]


def test_only_twins_share_a_class() -> None:
    topology = System.from_sequence("ACE-ALA-NME").topology
    classes = atom_classes(topology)
    assert classes.max() + 1 == 16, "three methyls of three hydrogens, all others alone"
    assert classes[0] == 0
    assert _names(topology, 1) == [{"HB1", "HB2", "HB3"}]


def test_charged_ends_rings_and_branches() -> None:
    topology = System.from_sequence("VFK").topology
    valine, phenylalanine, lysine = (_names(topology, residue) for residue in range(3))
    assert {"H", "H2", "H3"} in valine
    assert {"HG11", "HG12", "HG13"} in valine
    assert {"HG21", "HG22", "HG23"} in valine, "each methyl its own, or they would exchange hydrogens"
    assert phenylalanine == [{"HB2", "HB3"}], "rings turn as a whole, not atom by atom"
    assert {"O", "OXT"} in lysine


def test_twins_of_a_centre() -> None:
    topology = System.from_sequence("ACE-ALA-NME").topology
    classes = atom_classes(topology)
    beta, alpha = topology.find(1, "CB"), topology.find(1, "CA")
    assert beta is not None
    assert alpha is not None
    pair = twins_at(topology, beta, classes)
    assert pair is not None
    assert {topology.atom_names[i] for i in pair} == {"HB1", "HB2"}
    assert twins_at(topology, alpha, classes) is None
