"""Conformance suites for user-written potentials, targets and proposals, and toys with known answers."""
