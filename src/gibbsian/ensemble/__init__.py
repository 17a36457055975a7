"""Weighted conformations, their weights, estimators and distances."""
