"""What the free and the frozen coordinates of a reduced description are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FreeKind = Literal["angle", "phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4", "chi5", "rotor"]
FrozenKind = Literal["delta", "ring", "rotor", "angle", "bond"]


@dataclass(frozen=True, eq=False)
class Variables:
    """Free coordinates in token order: residue by residue, its backbone from N to C, then its side chain.

    Attributes
    ----------
    kinds
        (n,) what each is. ``rotor`` turns hydrogens, or the carboxylate at the end of a chain.
    residues, residue_names
        (n,) index and name of the residue of each: that of an angle's middle atom, and of the atom behind which a
        torsion turns, so that omega belongs to the residue of its nitrogen.
    backbone
        (n,) whether it is a bond angle or torsion of the chain N-CA-C: the backbone channel.
    """

    kinds: tuple[FreeKind, ...]
    residues: NDArray[np.int64]
    residue_names: tuple[str, ...]
    backbone: NDArray[np.bool_]

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.kinds)

    @property
    def periodic(self) -> NDArray[np.bool_]:
        """Which live on the circle: all but angles, (n,)."""
        return np.array([kind != "angle" for kind in self.kinds], dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Frozen:
    """Coordinates that a reduced description holds fixed, residue by residue: torsions, then angles, then bonds.

    Attributes
    ----------
    kinds
        (m,) what each is; ``delta`` is an azimuth relative to a sibling, ``ring`` a torsion of a small ring.
    residues
        (m,) residue of each, by the rule of `Variables`; of a bond, that of the atom placed.
    atoms
        (m, 4) atoms, the placed one first; -1 behind the third of an angle and the second of a bond.
    """

    kinds: tuple[FrozenKind, ...]
    residues: NDArray[np.int64]
    atoms: NDArray[np.int64]

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.kinds)

    def of(self, *kinds: FrozenKind) -> NDArray[np.bool_]:
        """Which are of one of these kinds, (m,)."""
        return np.array([kind in kinds for kind in self.kinds], dtype=np.bool_)

    @property
    def torsion(self) -> NDArray[np.bool_]:
        """Which are torsions of any kind, (m,)."""
        return ~self.of("angle", "bond")
