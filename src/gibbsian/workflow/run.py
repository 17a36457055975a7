"""One run: its settings, its system, its folder, and the order of its stages."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gibbsian.chem.system import System
from gibbsian.errors import InputError
from gibbsian.files import sha256
from gibbsian.parallel.group import first_does, is_first, size
from gibbsian.processor import core_seconds
from gibbsian.progress import Report, silent
from gibbsian.threads import one_thread
from gibbsian.workflow.fitting import check_reference
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
    together
        Whether all processes that torchrun started work on it; else the first does while the others wait.
    """

    name: str
    depends: tuple[str, ...]
    makes: str
    do: Callable[[Run, Report], dict[str, Any]]
    together: bool = False


SHARED_METHODS = ("snis", "smc")
"""Sampling methods that several processes share."""
Reporter = Callable[[str], Report]


@contextmanager
def open_run(given: dict[str, Any], path: Path, where: str) -> Iterator[Run]:
    """Open a run folder and keep others out of it; a new folder takes the settings, an old one must agree with them.

    Only what changes no earlier stage may differ: the section `sampling`. `where` names the source of the settings
    in messages. Of several processes the first makes and holds the folder, and all get the run.

    Raises
    ------
    InputError
        If a setting is wrong, or the folder belongs to another system or other settings.
    """
    settings = resolve_settings(given, where)
    if size() > 1 and settings.sampling.method not in SHARED_METHODS:
        raise InputError(
            f"{where}: sampling.method {settings.sampling.method} runs in one process only; choose one of "
            f"{', '.join(SHARED_METHODS)}, or start without torchrun"
        )
    if size() > 1 and settings.stream is not None:
        raise InputError(f"{where}: stream: runs in one process only; leave it out, or start without torchrun")
    with ExitStack() as opened:
        made: list[Run] = []
        first_does(lambda: made.append(opened.enter_context(_opened(settings, path))))
        yield made[0] if made else Run(settings, build_system(settings.system, path / "system"), RunFolder(path))


@contextmanager
def _opened(settings: RunSettings, path: Path) -> Iterator[Run]:
    if (path / "run.yaml").exists():
        _refuse_other(path / "run.yaml", settings)
    system = build_system(settings.system, path / "system")
    check_reference(settings, system.temperature)
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
        if first_does(partial(_is_done, run, stage)):
            continue
        work = partial(_do, run, stage, reporter(stage.name))
        if stage.together:
            work()
            first_does(lambda: None)  # what the first has written is there for all
        else:
            first_does(work)


def _is_done(run: Run, stage: Stage) -> bool:
    return run.folder.finished(stage.name, run.digest(*stage.depends)) and (run.folder.path / stage.makes).exists()


def _do(run: Run, stage: Stage, report: Report) -> None:
    begin, before = time.monotonic(), core_seconds()
    processes = size() if stage.together else 1
    try:
        with one_thread():
            figures = stage.do(run, report)
    finally:
        if is_first():
            # All do the same share of the work; nothing is sent here, where the others may have failed.
            run.folder.spend(stage.name, time.monotonic() - begin, processes * (core_seconds() - before))
    if is_first():
        made = {stage.makes: sha256(run.folder.path / stage.makes)}
        run.folder.note(stage.name, run.digest(*stage.depends), made=made, **figures)


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
