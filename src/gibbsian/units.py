"""Units: nm, ps, kJ/mol, K, rad, elementary charge; reduced energies in kT."""

BOLTZMANN = 0.00831446261815324
"""Boltzmann constant in kJ/mol/K."""


def kt(temperature: float) -> float:
    """Thermal energy in kJ/mol at a temperature in K."""
    return BOLTZMANN * temperature
