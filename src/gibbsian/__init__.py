"""Learned equilibrium sampling of peptides and proteins."""

__version__ = "0.1.0"
