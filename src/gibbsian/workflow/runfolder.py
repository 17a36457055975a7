"""The run folder: who holds it, what it was made for, and which stages are done."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from gibbsian.errors import InputError
from gibbsian.files import read_json, write_json


@dataclass(frozen=True)
class RunFolder:
    """Paths and records of one run; every write is atomic, so a killed run leaves a readable folder."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved configuration."""
        return self.path / "run.yaml"

    @property
    def system(self) -> Path:
        """Folder of the prepared system."""
        return self.path / "system"

    @property
    def data(self) -> Path:
        """Folder of the training data."""
        return self.path / "data"

    @property
    def model(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "model"

    @property
    def samples(self) -> Path:
        """Folder of the weighted samples."""
        return self.path / "samples"

    @property
    def manifest(self) -> Path:
        """Record of the finished stages."""
        return self.path / "manifest.json"

    @property
    def results(self) -> Path:
        """Figures for programs."""
        return self.path / "results.json"

    @property
    def novel(self) -> Path:
        """Structures that resemble no training data, each before the frame nearest to it; of proteins only."""
        return self.path / "novel.pdb"

    @property
    def report(self) -> Path:
        """Page for people."""
        return self.path / "report.html"

    def record(self) -> dict[str, Any]:
        """Return the manifest; empty before the first stage."""
        return read_json(self.manifest) if self.manifest.exists() else {"stages": {}}

    def finished(self, stage: str, made_from: str) -> bool:
        """Tell whether a stage is done from exactly these inputs."""
        return self.record()["stages"].get(stage, {}).get("made_from") == made_from

    def note(self, stage: str, made_from: str, **figures: Any) -> None:
        """Record a finished stage with what it was made from and what it cost."""
        record = self.record()
        record["stages"][stage] = {"made_from": made_from, **figures}
        write_json(self.manifest, record)

    def spend(self, stage: str, seconds: float, core_seconds: float) -> None:
        """Add wall time and processor time to a stage; both are sums over all its attempts."""
        record = self.record()
        for account, spent in (("seconds", seconds), ("core_seconds", core_seconds)):
            sums = record.setdefault(account, {})
            sums[stage] = round(sums.get(stage, 0.0) + spent, 3)
        write_json(self.manifest, record)


def digest(content: Any) -> str:
    """Short hash of JSON-like content: equal settings, equal digest."""
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def open_folder(path: Path) -> RunFolder:
    """Create a run folder or open an existing one.

    Raises
    ------
    InputError
        If the path is a file, cannot be written, or is a non-empty folder that no run made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        present = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise InputError(f"{path}: cannot make a run folder here ({error.strerror}); choose another with -o") from error
    if not os.access(path, os.W_OK):
        raise InputError(f"{path}: no write permission; choose another folder with -o")
    if present and "run.yaml" not in present and not present <= {".lock", "log.txt"}:
        raise InputError(f"{path}: not empty and not a run folder; choose another folder with -o")
    return RunFolder(path)


@contextmanager
def hold(folder: RunFolder) -> Iterator[IO[str]]:
    """Keep a second process out of the folder; the lock ends with the process, however it ends.

    Raises
    ------
    InputError
        If another process is writing to the folder.
    """
    with locked(folder.path / ".lock", f"{folder.path}: another run is writing here", "-o") as lock:
        yield lock


@contextmanager
def locked(file: Path, busy: str, option: str) -> Iterator[IO[str]]:
    """Hold a lock file, made where there is none; the lock ends with the process, however it ends.

    Parameters
    ----------
    file
        In an existing folder.
    busy
        What to say where another process holds it.
    option
        The option that chooses another folder.

    Raises
    ------
    InputError
        If another process holds it, or the folder cannot be written.
    """
    try:
        lock = file.open("w")
    except OSError as error:
        raise InputError(
            f"{file.parent}: no write permission ({error.strerror}); choose another with {option}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{busy}; wait for it or use another {option}") from error
        yield lock
