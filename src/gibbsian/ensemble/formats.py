"""Trajectory formats: which there are, and what each loses."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gibbsian.errors import InputError


@dataclass(frozen=True)
class Format:
    """What there is to know about one format.

    Attributes
    ----------
    name
        What people call it.
    suffixes
        Endings of its files, lower case; the first is the usual one.
    self_contained
        Whether files bring atom and residue names along.
    rounding
        Step in nm between neighbouring coordinates where the format rounds; None where it keeps float32.
    """

    name: str
    suffixes: tuple[str, ...]
    self_contained: bool
    rounding: float | None


PDB = Format("PDB", (".pdb", ".ent"), True, 1e-4)
MMCIF = Format("mmCIF", (".cif", ".mmcif", ".pdbx"), True, 1e-4)
XTC = Format("XTC", (".xtc",), False, 1e-3)
DCD = Format("DCD", (".dcd",), False, None)
HDF5 = Format("mdtraj-HDF5", (".h5", ".hdf5"), True, None)
FORMATS = (PDB, MMCIF, XTC, DCD, HDF5)


def format_of(path: Path | str) -> Format:
    """Return the format that the ending of a file stands for.

    Raises
    ------
    InputError
        If the ending is unknown, or the format needs a package that is not installed.
    """
    suffix = Path(path).suffix.lower()
    for found in FORMATS:
        if suffix in found.suffixes:
            if found is HDF5:
                _need_tables(path)
            return found
    known = ", ".join(one.suffixes[0] for one in FORMATS)
    raise InputError(f"{path}: unknown ending {suffix!r}; the trajectory formats are {known}")


def _need_tables(path: Path | str) -> None:
    try:
        import_module("tables")
    except ImportError as error:
        raise InputError(
            f"{path}: mdtraj-HDF5 needs the package tables; install the extra gibbsian[h5] or use another format"
        ) from error


def rounding_of(path: Path | str) -> float | None:
    """Step in nm by which a file's format rounds coordinates; None for float32 formats, arrays and folders."""
    suffix = Path(path).suffix.lower()
    return next((found.rounding for found in FORMATS if suffix in found.suffixes), None)


def rounding_warning(source: str, rounding: float | None) -> str | None:
    """Return the one sentence that a person must read before energies of rounded coordinates enter a weight."""
    if rounding is None:
        return None
    return (
        f"warning: {source} holds coordinates rounded to {rounding:g} nm: energies of its frames are approximate and "
        "serve no weights; DCD, mdtraj-HDF5 and .npy are not rounded"
    )
