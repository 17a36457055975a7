"""Batched Langevin dynamics and temperature replica exchange."""
