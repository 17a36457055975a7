"""Hand-made ensembles of capped alanine, and results that follow the schema, for the tests of the report."""

import numpy as np
from numpy.typing import NDArray

from gibbsian.chem.topology import Topology
from gibbsian.ensemble.ensemble import Ensemble

# name, element, residue, then parent, grandparent, great-grandparent, bond / nm, angle / deg, torsion / deg
ATOMS = [
    ("CH3", "C", 0, None, None, None, 0.0, 0.0, 0.0),
    ("C", "C", 0, 0, None, None, 0.152, 0.0, 0.0),
    ("O", "O", 0, 1, 0, None, 0.123, 120.5, 0.0),
    ("N", "N", 1, 1, 0, 2, 0.1335, 116.6, 180.0),
    ("H", "H", 1, 3, 1, 0, 0.101, 119.8, 0.0),
    ("CA", "C", 1, 3, 1, 0, 0.1449, 121.9, 180.0),
    ("C", "C", 1, 5, 3, 1, 0.1522, 111.0, "phi"),
    ("CB", "C", 1, 5, 3, 6, 0.1526, 109.5, -122.0),
    ("HA", "H", 1, 5, 3, 6, 0.109, 109.5, 119.0),
    ("N", "N", 2, 6, 5, 3, 0.1335, 116.6, "psi"),
    ("O", "O", 1, 6, 5, 9, 0.1229, 120.4, 180.0),
    ("H", "H", 2, 9, 6, 5, 0.101, 119.8, 0.0),
    ("C", "C", 2, 9, 6, 5, 0.1449, 121.9, 180.0),
]


def topology() -> Topology:
    return Topology(
        atom_names=tuple(row[0] for row in ATOMS),
        elements=tuple(row[1] for row in ATOMS),
        residue_index=np.array([row[2] for row in ATOMS], dtype=np.int64),
        residue_names=("ACE", "ALA", "NME"),
        residue_ids=("1", "2", "3"),
        bonds=np.array(sorted(tuple(sorted((i, row[3]))) for i, row in enumerate(ATOMS) if row[3] is not None)),
    )


def positions(phi: NDArray[np.float64], psi: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """Conformations (n, 13, 3) nm with the given torsions (rad) and a little noise in the others."""
    rng = np.random.default_rng(seed)
    x = np.zeros((len(phi), len(ATOMS), 3))
    for i, (_, _, _, a, b, c, bond, angle, torsion) in enumerate(ATOMS):
        if a is None:
            continue
        if b is None:
            x[:, i] = x[:, a] + [bond, 0, 0]
            continue
        theta = np.radians(angle + rng.normal(0, 2.0, len(phi)))
        known = {"phi": phi, "psi": psi}
        t = known[torsion] if isinstance(torsion, str) else np.radians(torsion + rng.normal(0, 3.0, len(phi)))
        e1 = x[:, a] - x[:, b]
        e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
        back = np.array([0.0, 1.0, 0.0]) + 0 * e1 if c is None else x[:, b] - x[:, c]
        e3 = np.cross(back, e1)
        e3 /= np.linalg.norm(e3, axis=1, keepdims=True)
        e2 = np.cross(e3, e1)
        local = [-np.cos(theta), np.sin(theta) * np.cos(t), np.sin(theta) * np.sin(t)]
        x[:, i] = x[:, a] + bond * sum(p[:, None] * e for p, e in zip(local, (e1, e2, e3), strict=True))
    return x.astype(np.float32)


STATES = np.radians([[-70, 150], [-150, 155], [-75, -25], [57, 45]])


def angles(n: int, populations: list[float], width: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Phi and psi (n, 2) rad from a mixture of four states."""
    state = rng.choice(4, n, p=populations)
    return STATES[state] + np.radians(width) * rng.standard_normal((n, 2))


def weighted(n: int = 2000, spread: float = 0.9, seed: int = 1) -> Ensemble:
    """Importance samples whose weights vary by `spread` kT."""
    rng = np.random.default_rng(seed)
    torsions = angles(n, [0.36, 0.25, 0.33, 0.06], 24, rng)
    log_w = spread * rng.standard_normal(n) - 60.0
    u = -40 + 0.5 * rng.chisquare(30, n) - 0.8 * log_w - 48
    log_q = -u - log_w
    return Ensemble(positions(*torsions.T, seed), log_w, topology(), 300.0, u=u, log_q=log_q)


def simulated(n: int = 3000, seed: int = 2) -> Ensemble:
    """Simulation frames of equal weight."""
    rng = np.random.default_rng(seed)
    torsions = angles(n, [0.4, 0.28, 0.3, 0.02], 20, rng)
    u = -40 + 0.5 * rng.chisquare(30, n)
    return Ensemble(positions(*torsions.T, seed), np.zeros(n), topology(), 300.0, u=u)


def results() -> dict:
    """A reliable run."""
    return {
        "system": "ACE-ALA-NME",
        "recipe": "spline",
        "seed": 0,
        "samples": {"proposed": 50000, "finite": 49987, "clipped": 0},
        "ess": {"count": 11520.4, "fraction": 0.2304},
        "forward_ess": {"fraction": 0.1931, "n": 2000},
        "k_hat": 0.4312,
        "log_z": {"value": 61.2345, "error": 0.00817},
        "basins": [
            {
                "name": "ALA2 left",
                "free_energy": {"value": 3.9641, "error": 0.0713, "unit": "kT"},
                "reference": {"value": 3.912, "error": 0.12},
            },
            {
                "name": "ALA2 alpha",
                "free_energy": {"value": 0.7311, "error": 0.0182, "unit": "kT"},
                "reference": {"value": 0.7422, "error": 0.041},
            },
            {
                "name": "ALA2 beta",
                "free_energy": {"value": -0.6521, "error": 0.0175, "unit": "kT"},
                "reference": {"value": -0.671, "error": 0.04},
            },
        ],
        "observables": [
            {"name": "phi ALA2", "value": -1.5312, "error": 0.0123, "unit": "rad"},
            {"name": "radius of gyration", "value": 0.26734, "error": 0.00021, "unit": "nm"},
            {"name": "end-to-end distance", "value": 0.5871, "error": 0.0013, "unit": "nm"},
            {"name": "potential energy", "value": -25.312, "error": 0.043, "unit": "kT"},
        ],
        "distances": [
            {"name": "e_w1", "n": 2000, "value": 0.142, "floor": 0.121},
            {"name": "e_w2", "n": 2000, "value": 0.310, "floor": 0.154},
            {"name": "t_w2", "n": 2000, "value": 0.262, "floor": 0.231},
            {"name": "ram_jsd_36x36_bits", "n": 2000, "value": 0.0081, "floor": 0.0072},
            {"name": "ram_tv_100x100", "n": 2000, "value": 0.391, "floor": 0.069},
        ],
        "verdict": {"reliable": True, "reasons": []},
        "performance": {
            "seconds": {"simulate": 121.3, "train": 143.2, "sample": 41.8},
            "energy_calls": {"simulate": 1280000, "sample": 50000},
            "samples_per_second": 1196.2,
        },
    }


def training_log() -> list[dict]:
    steps = np.arange(0, 4000, 50)
    log = []
    for step in steps.tolist():
        entry = {
            "step": step,
            "stage": "nll" if step < 3000 else "nll + reverse KL",
            "nll": 30 * np.exp(-step / 500) - 31 - step / 8000,
        }
        if step % 200 == 0:
            entry["held_out"] = 30 * np.exp(-step / 500) - 30.6 + (step / 4000) ** 4 * 0.4
        log.append(entry)
    return log


def info() -> dict:
    temperatures = [300.0, 332.0, 368.0, 407.0, 451.0, 500.0]
    return {
        "system": {
            "sequence": "ACE-ALA-NME",
            "termini": "capped",
            "forcefield": "amber99sbildn",
            "solvent": "amber99_obc",
            "cutoff": None,
            "temperature": 300.0,
            "n_atoms": 22,
            "changes": [],
        },
        "recipe": "spline",
        "seed": 0,
        "command": "gibbsian run ACE-ALA-NME -o runs/ACE-ALA-NME",
        "simulation": {
            "temperatures": temperatures,
            "acceptance": [0.62, 0.61, 0.60, 0.60, 0.58],
            "round_trips": 812,
            "ladders": 8,
            "aggregate_ns": 48.0,
            "frames": 24000,
            "timestep": 0.002,
            "friction": 1.0,
            "resets": 0,
        },
        "training": {"parameters": 812345, "stages": [{"name": "nll", "steps": 1000, "keep": "best"}]},
        "versions": {"gibbsian": "0.1.0", "torch": "2.13.0", "openmm": "8.6.1"},
    }
