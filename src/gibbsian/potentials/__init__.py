"""Batched potential energies and forces."""
