"""Observables, distances to references, diagnostics and the verdict."""
