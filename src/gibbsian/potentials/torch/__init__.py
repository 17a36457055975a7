"""The torch engine: any device, analytic forces, optional double backward."""

from gibbsian.potentials.torch.engine import TorchPotential

__all__ = ["TorchPotential"]
