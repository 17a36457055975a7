"""Potential energies of batches of conformations, by several engines with one contract."""

# The library torch cannot be used here: the subpackage of that name is an attribute of this module.
from gibbsian.potentials.base import Potential
from gibbsian.potentials.choose import ENGINES, potential
from gibbsian.potentials.compiled import CompiledPotential
from gibbsian.potentials.torch import TorchPotential

__all__ = ["ENGINES", "CompiledPotential", "Potential", "TorchPotential", "potential"]
