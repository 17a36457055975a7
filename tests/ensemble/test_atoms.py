import pytest

from gibbsian.ensemble.atoms import select
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
