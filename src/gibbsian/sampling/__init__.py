"""Corrections from a proposal to the target."""
