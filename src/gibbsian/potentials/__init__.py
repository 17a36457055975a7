"""Potential energies of batches of conformations, by several engines with one contract."""

# Nothing else may be imported here: the subpackage `torch` is an attribute of this module and would hide the library.
from gibbsian.potentials.base import Potential
from gibbsian.potentials.choose import ENGINES, potential
from gibbsian.potentials.torch import TorchPotential

__all__ = ["ENGINES", "Potential", "TorchPotential", "potential"]
