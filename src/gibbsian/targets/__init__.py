"""Unnormalised densities that samplers aim at."""
