"""Shared by the tests of chem: a peptide with every residue, energies by OpenMM."""

from functools import cache

import numpy as np
import openmm

from gibbsian.chem.system import System

ALL_RESIDUES = "ACE-ARNDCQEGHILKMFPSTWYV-NME"


@cache
def all_residues() -> System:
    return System.from_sequence(ALL_RESIDUES, "amber14", "obc2")


@cache
def charged_residues() -> System:
    return System.from_sequence("PARNDCQEGHILKMFPSTWYVG", "amber14", "vacuum")


def energy(system: System, positions: np.ndarray | None = None) -> float:
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system.openmm_system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(system.positions if positions is None else positions)
    return context.getState(energy=True).getPotentialEnergy()._value


def dihedral(x: np.ndarray, atoms: tuple[int, int, int, int]) -> float:
    a, b, c, d = x[list(atoms)]
    axis = (c - b) / np.linalg.norm(c - b)
    u, v = (a - b) - (a - b) @ axis * axis, (d - c) - (d - c) @ axis * axis
    return float(np.degrees(np.arctan2(np.cross(axis, u) @ v, u @ v)))
