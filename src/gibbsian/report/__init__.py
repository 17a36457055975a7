"""Figures and the offline report page."""
