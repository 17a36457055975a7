"""Bijections between Cartesian and internal coordinates, and symmetries."""
