"""Learned equilibrium sampling of peptides and proteins, with exact weights."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gibbsian.chem.system import System
    from gibbsian.dynamics.simulate import simulate
    from gibbsian.dynamics.umbrella import UmbrellaSettings, umbrella
    from gibbsian.ensemble.ensemble import Ensemble
    from gibbsian.potentials import potential
    from gibbsian.workflow.api import fit, sample, temperature_scan

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "System",
    "UmbrellaSettings",
    "fit",
    "potential",
    "sample",
    "simulate",
    "temperature_scan",
    "umbrella",
]

_HOMES = {
    "Ensemble": "gibbsian.ensemble.ensemble",
    "System": "gibbsian.chem.system",
    "UmbrellaSettings": "gibbsian.dynamics.umbrella",
    "fit": "gibbsian.workflow.api",
    "potential": "gibbsian.potentials",
    "sample": "gibbsian.workflow.api",
    "simulate": "gibbsian.dynamics.simulate",
    "temperature_scan": "gibbsian.workflow.api",
    "umbrella": "gibbsian.dynamics.umbrella",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: the command line must answer before torch is loaded."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gibbsian' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
