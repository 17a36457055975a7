"""The system of a run, built from what the user named."""

import shutil
from pathlib import Path

import torch

from gibbsian.chem.library import resolve
from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.potentials import potential
from gibbsian.targets.boltzmann import Boltzmann
from gibbsian.targets.handed import Handed
from gibbsian.workflow.settings import SystemSettings


def build_system(settings: SystemSettings, kept: Path | None = None) -> System:
    """Build the system; where `keep_source` has left a copy of the source file in `kept`, from that.

    Raises
    ------
    InputError
        If the source is not a molecule that the package can treat.
    """
    copy = _copy_of(settings, kept) if kept is not None else None
    source = str(copy) if copy is not None and copy.exists() else settings.source
    return resolve(source, **settings.model_dump(exclude={"source"}))


def target_of(system: System) -> Handed:
    """Boltzmann distribution of a system, in double precision, with the handedness of its structure."""
    positions = torch.from_numpy(system.positions)
    return Handed(Boltzmann(potential(system), system.temperature), system.topology, positions)


def model_of(system: System) -> str:
    """Name force field, solvent, cutoff and temperature in a few words."""
    cutoff = "no cutoff" if system.cutoff is None else f"cutoff {system.cutoff:g} nm"
    return f"{system.forcefield} + {system.solvent}, {cutoff}, {system.temperature:g} K"


def keep_source(settings: SystemSettings, folder: Path) -> None:
    """Copy a structure or FASTA file to `folder`, once, so that the run can go on without the original.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    copy = _copy_of(settings, folder)
    try:
        folder.mkdir(exist_ok=True)
        if copy is not None and not copy.exists() and Path(settings.source).is_file():
            shutil.copyfile(settings.source, copy)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror}); choose another folder with -o") from error


def _copy_of(settings: SystemSettings, folder: Path) -> Path | None:
    suffix = Path(settings.source).suffix
    return folder / f"source{suffix}" if suffix else None
