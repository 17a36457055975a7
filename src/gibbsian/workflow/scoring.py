"""Anyone's ensemble against a reference."""

from pathlib import Path

from gibbsian.ensemble.readers import read_ensemble
from gibbsian.evaluate.results import Results, evaluate


def score(ensemble: Path, reference: Path | None, topology: Path | None = None, temperature: float = 300.0) -> Results:
    """Evaluate an ensemble from disk, alone or against a reference from disk.

    Parameters
    ----------
    ensemble, reference
        Anything that `gibbsian.ensemble.readers.read_ensemble` reads.
    topology
        PDB file for formats that carry none.
    temperature
        K, of trajectories; our own folders know theirs.

    Raises
    ------
    InputError
        If one of them cannot be read or they are of different molecules.
    """
    judged = read_ensemble(ensemble, topology=topology, temperature=_temperature(ensemble, temperature))
    trusted = None
    if reference is not None:
        trusted = read_ensemble(reference, topology=topology, temperature=_temperature(reference, temperature))
    return evaluate(judged, reference=trusted, system="-".join(judged.topology.residue_names))


def _temperature(path: Path, temperature: float) -> float | None:
    return None if path.is_dir() else temperature
