"""One run: its settings, its system, its folder, and the order of its stages."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.files import sha256
from gibbsian.processor import core_seconds
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread
from gibbsian.workflow.runfolder import RunFolder, digest, hold, open_folder
from gibbsian.workflow.settings import RunSettings, read_settings, resolve_settings, write_settings
from gibbsian.workflow.system import build_system, keep_source


@dataclass(frozen=True, eq=False)
class Run:
    """A run that may be new, half done or complete."""

    settings: RunSettings
    system: System
    folder: RunFolder

    def digest(self, *sections: str) -> str:
        """Digest of the system, the seed and the named sections of the settings."""
        dumped = self.settings.model_dump(mode="json")
        return digest([self.system.key, dumped["seed"], *(dumped[section] for section in sections)])


@dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes
    ----------
    name
        Its name in the manifest and on the command line.
    depends
        Sections of the settings that it and the stages before it depend on.
    makes
        The file that it leaves last, in the run folder; without it the stage is not done.
    do
        Function of the run that resumes from the folder, writes to it and returns figures for the manifest.
    """

    name: str
    depends: tuple[str, ...]
    makes: str
    do: Callable[[Run, Report], dict[str, Any]]


Reporter = Callable[[str], Report]


@contextmanager
def open_run(given: dict[str, Any], path: Path, where: str) -> Iterator[Run]:
    """Open a run folder and keep others out of it; a new folder takes the settings, an old one must agree with them.

    Only what changes no earlier stage may differ: the section `sampling`. `where` names the source of the settings
    in messages.

    Raises
    ------
    InputError
        If a setting is wrong, or the folder belongs to another system or other settings.
    """
    settings = resolve_settings(given, where)
    if (path / "run.yaml").exists():
        _refuse_other(path / "run.yaml", settings)
    system = build_system(settings.system, path / "system")
    folder = open_folder(path)
    with hold(folder):
        keep_source(settings.system, folder.system)
        write_settings(folder.config, settings)
        yield Run(settings, system, folder)


def settings_of(path: Path) -> dict[str, Any]:
    """Return the settings of an existing run folder.

    Raises
    ------
    InputError
        If there is no run in the folder.
    """
    config = path / "run.yaml"
    if not config.exists():
        raise InputError(f"{path}: no run.yaml here, so no run; start one with `gibbsian prepare SYSTEM -o {path}`")
    return read_settings(config)


def perform(run: Run, stages: Sequence[Stage], reporter: Reporter = lambda _: silent) -> None:
    """Run stages in order; each is skipped if done already and leaves a record of what it was made from."""
    for stage in stages:
        made_from = run.digest(*stage.depends)
        if run.folder.finished(stage.name, made_from) and (run.folder.path / stage.makes).exists():
            continue
        begin, before = time.monotonic(), core_seconds()
        try:
            with one_thread():
                figures = stage.do(run, reporter(stage.name))
        finally:
            run.folder.spend(stage.name, time.monotonic() - begin, core_seconds() - before)
        made = {stage.makes: sha256(run.folder.path / stage.makes)}
        run.folder.note(stage.name, made_from, made=made, **figures)


def _refuse_other(config: Path, settings: RunSettings) -> None:
    old = resolve_settings(read_settings(config), str(config))
    difference = _first_difference(old.model_dump(mode="json"), settings.model_dump(mode="json"))
    if difference:
        name, was, now = difference
        raise InputError(f"{config}: made with {name} = {was!r}, now {now!r}; choose another folder with -o")


def _first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else (name, old, new)
    for key in {**old, **new}:
        inner = f"{name}.{key}" if name else key
        found = None if inner == "sampling" else _first_difference(old.get(key), new.get(key), inner)
        if found:
            return found
    return None
