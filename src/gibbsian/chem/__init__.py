"""Molecules and force fields: from a sequence or a structure to a System."""
