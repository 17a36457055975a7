"""Generalized Born models: parameters, and recognition of OpenMM's expressions for them."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COULOMB = 138.93545764438198
"""1/(4 pi eps0) in kJ nm/mol/e^2, as in OpenMM's compiled forces."""

COULOMB_GB = 138.935485
"""The rounder value in the expressions of OpenMM's custom generalized Born forces."""


@dataclass(frozen=True, eq=False)
class Neck:
    """Neck correction of GBn and GBn2: directional tables over atom pairs (nm, 1/nm)."""

    scale: float
    cut: float
    distance: Floats
    height: Floats


@dataclass(frozen=True, eq=False)
class Born:
    """Parameters of a generalized Born model.

    Attributes
    ----------
    kind
        ``gbsaobc`` (OpenMM's built-in force), ``hct``, ``obc1``, ``obc2``, ``gbn`` or ``gbn2``.
    charges
        (n_atoms,) e; a force of its own, so not necessarily those of the non-bonded force.
    offset_radii, scaled_radii
        (n_atoms,) nm: intrinsic radius less `offset`, and that times the screening factor (negative for
        sulphur in GBn2).
    tanh
        (n_atoms, 3) coefficients of psi, -psi^2, psi^3 in the rescaling of the Born radius; None for HCT.
    neck
        Neck correction or None.
    coulomb, solute_dielectric, solvent_dielectric, kappa
        kJ nm/mol/e^2, 1, 1, 1/nm.
    surface
        Prefactor of the ACE surface term (R + 0.14 nm)^2 (R/B)^6 in kJ/mol/nm^2; 0 without one.
    cutoff
        nm, or None.
    """

    kind: str
    charges: Floats
    offset_radii: Floats
    scaled_radii: Floats
    offset: float
    tanh: Floats | None
    neck: Neck | None
    coulomb: float
    solute_dielectric: float
    solvent_dielectric: float
    kappa: float
    surface: float
    cutoff: float | None

    @property
    def engulfed_term(self) -> bool:
        """Whether an atom engulfed by a neighbour gets the extra 1/or - 1/L: in the built-in force only."""
        return self.kind == "gbsaobc"


_TANH = {"obc1": (0.8, 0.0, 2.909125), "obc2": (1.0, 0.8, 4.85), "gbn": (1.09511284, 1.907992938, 2.50798245)}
_NECK_SCALE = {"gbn": 0.361825, "gbn2": 0.826836}
_NECK_CUT = 0.68
_ACE = 28.3919551

ACE_PROBE = 0.14
"""Probe radius of the surface term, nm."""


def from_gbsa_obc(force: Any) -> Born:
    """Parameters of an `openmm.GBSAOBCForce`."""
    rows = [force.getParticleParameters(i) for i in range(force.getNumParticles())]
    atoms = np.array([[getattr(v, "_value", v) for v in row] for row in rows], dtype=np.float64).reshape(-1, 3)
    offset_radii = atoms[:, 1] - 0.009
    cut = force.getNonbondedMethod() != force.NoCutoff
    return Born(
        kind="gbsaobc",
        charges=atoms[:, 0].copy(),
        offset_radii=offset_radii,
        scaled_radii=atoms[:, 2] * offset_radii,
        offset=0.009,
        tanh=np.tile(_TANH["obc2"], (len(atoms), 1)),
        neck=None,
        coulomb=COULOMB,
        solute_dielectric=force.getSoluteDielectric(),
        solvent_dielectric=force.getSolventDielectric(),
        kappa=0.0,
        surface=4 * np.pi * force.getSurfaceAreaEnergy()._value,
        cutoff=force.getCutoffDistance()._value if cut else None,
    )


def from_custom_gb(force: Any) -> Born | None:
    """Parameters of an `openmm.CustomGBForce`, or None unless OpenMM's own code makes the same force.

    The constants are read from the text of the energy terms; the force is made anew from them and compared.
    """
    from openmm.app.internal import customgbforces as generators

    if not force.getNumEnergyTerms():
        return None
    found = re.search(
        r"; solventDielectric=(\S+); soluteDielectric=(\S+); kappa=(\S+); offset=([^;\s]+)"
        r"(?:; cutoff=(\S+))?$",
        force.getEnergyTermParameters(0)[0],
    )
    if found is None:
        return None
    solvent, solute, kappa, offset = (float(text) for text in found.groups()[:4])
    cutoff = float(found[5]) if found[5] else None
    if not _cutoff_agrees(force, cutoff):
        return None
    particles = np.array([force.getParticleParameters(i) for i in range(force.getNumParticles())], dtype=np.float64)
    classes = {
        "hct": generators.GBSAHCTForce,
        "obc1": generators.GBSAOBC1Force,
        "obc2": generators.GBSAOBC2Force,
        "gbn": generators.GBSAGBnForce,
        "gbn2": generators.GBSAGBn2Force,
    }
    for kind, make in classes.items():
        for surface in ("ACE", None):
            twin = make(solventDielectric=solvent, soluteDielectric=solute, SA=surface, cutoff=cutoff, kappa=kappa)
            has_neck = kind in _NECK_SCALE
            twin.parameters = (particles[:, :-1] if has_neck else particles).tolist()
            try:
                twin.finalize()
            except (ValueError, IndexError):
                continue
            if _description(twin) != _description(force):
                continue
            tanh = _TANH.get(kind)
            return Born(
                kind=kind,
                charges=particles[:, 0].copy(),
                offset_radii=particles[:, 1].copy(),
                scaled_radii=particles[:, 2].copy(),
                offset=offset,
                tanh=particles[:, 3:6].copy() if kind == "gbn2" else tanh and np.tile(tanh, (len(particles), 1)),
                neck=_neck(force, kind, particles[:, -1].astype(int)) if has_neck else None,
                coulomb=COULOMB_GB,
                solute_dielectric=solute,
                solvent_dielectric=solvent,
                kappa=kappa,
                surface=_ACE if surface else 0.0,
                cutoff=cutoff,
            )
    return None


def _cutoff_agrees(force: Any, cutoff: float | None) -> bool:
    method = force.getNonbondedMethod()
    if cutoff is None:
        return method == force.NoCutoff
    return method == force.CutoffNonPeriodic and bool(np.isclose(force.getCutoffDistance()._value, cutoff))


def _description(force: Any) -> tuple[Any, ...]:
    """Everything that defines a CustomGBForce, its exclusions included."""
    tables = []
    for i in range(force.getNumTabulatedFunctions()):
        function = force.getTabulatedFunction(i)
        read = getattr(function, "getFunctionParameters", None)
        values = [np.round(np.asarray(part, dtype=np.float64), 12).tolist() for part in read()] if read else None
        tables.append((force.getTabulatedFunctionName(i), type(function).__name__, str(values)))
    return (
        [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())],
        [force.getGlobalParameterName(i) for i in range(force.getNumGlobalParameters())],
        [tuple(force.getComputedValueParameters(i)) for i in range(force.getNumComputedValues())],
        [tuple(force.getEnergyTermParameters(i)) for i in range(force.getNumEnergyTerms())],
        tables,
        [tuple(force.getParticleParameters(i)) for i in range(force.getNumParticles())],
        [tuple(force.getExclusionParticles(i)) for i in range(force.getNumExclusions())],
    )


def _neck(force: Any, kind: str, index: NDArray[np.int_]) -> Neck:
    tables = {}
    for i in range(force.getNumTabulatedFunctions()):
        x_size, y_size, values = force.getTabulatedFunction(i).getFunctionParameters()
        # OpenMM stores the first argument fastest.
        table = np.array(values, dtype=np.float64).reshape(y_size, x_size).T
        tables[force.getTabulatedFunctionName(i)] = table[index[:, None], index[None, :]]
    return Neck(scale=_NECK_SCALE[kind], cut=_NECK_CUT, distance=tables["getd0"], height=tables["getm0"])
