"""The engine for GPUs; the library triton is imported when it is first used."""

from gibbsian.potentials.triton.engine import TritonPotential, has_triton

__all__ = ["TritonPotential", "has_triton"]
