"""Training on energies alone: a sequence of targets from where a flow is to the Boltzmann distribution."""
