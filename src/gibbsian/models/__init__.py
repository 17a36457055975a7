"""Generators of conformations with exact densities."""
