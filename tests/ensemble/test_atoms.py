import pytest

from gibbsian.ensemble.atoms import alpha_carbons, has_fold, select, shape_atoms
from gibbsian.errors import InputError
from gibbsian.testing.backbone import backbone_topology


def test_selections_of_a_capped_chain():
    topology = backbone_topology(3)
    named = [[topology.atom_names[i] for i in select(topology, kind)] for kind in ("ca", "backbone")]
    assert named[0] == ["CA"] * 3
    assert named[1] == ["C", *["N", "CA", "C"] * 3, "N", *(["C"] if topology.find(4, "C") is not None else [])]
    assert len(select(topology, "heavy")) == topology.n_atoms
    with pytest.raises(InputError, match="'side' is unknown"):
        select(topology, "side")  # pyright: ignore[reportArgumentType]


def test_four_alpha_carbons_have_a_shape():
    for residues in (3, 4):
        topology = backbone_topology(residues)
        assert len(alpha_carbons(topology)) == residues
        assert has_fold(topology) is (residues == 4)
        assert len(shape_atoms(topology)) == (4 if residues == 4 else len(select(topology, "backbone")))
