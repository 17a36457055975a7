"""Potential energies of batches of conformations, by several engines with one contract."""

# The libraries torch and triton cannot be used here: subpackages of these names are attributes of this module.
from gibbsian.potentials.base import Potential
from gibbsian.potentials.choose import ENGINES, potential
from gibbsian.potentials.compiled import CompiledPotential
from gibbsian.potentials.torch import TorchPotential
from gibbsian.potentials.triton import TritonPotential

__all__ = ["ENGINES", "CompiledPotential", "Potential", "TorchPotential", "TritonPotential", "potential"]
