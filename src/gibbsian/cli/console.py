"""What a person sees while work goes on: a progress bar on a terminal, a line now and then elsewhere."""

import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gibbsian.errors import StoppedError

OUT = Console(stderr=True, highlight=False)
LOGGER = logging.getLogger("gibbsian")
SECONDS_BETWEEN_LINES = 10.0


class Watch:
    """Progress display, log file and the wish to stop, of one command.

    Long work calls ``watch.report(stage)(done, total, **figures)`` after each piece that is safely on disk; that is
    where a termination signal or the end of `max_time` (seconds) turns into `StoppedError`.
    """

    def __init__(self, max_time: float | None = None, log: Path | None = None) -> None:
        self._deadline = None if max_time is None else time.monotonic() + max_time
        self._stop = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line = 0.0
        self._handlers: list[logging.Handler] = []
        if log is not None:
            handler = logging.FileHandler(log)
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            self._handlers.append(handler)

    def __enter__(self) -> Self:
        """Catch termination signals and open the log."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        LOGGER.setLevel(logging.INFO)
        for handler in self._handlers:
            LOGGER.addHandler(handler)
        return self

    def __exit__(self, *_: object) -> None:
        """Give signals, terminal and log back."""
        self._close_bar()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for handler in self._handlers:
            LOGGER.removeHandler(handler)
            handler.close()

    def say(self, text: str) -> None:
        """Show a line to the person and keep it in the log."""
        self._close_bar()
        OUT.print(text, soft_wrap=True, markup=False)
        LOGGER.info(text)

    def report(self, stage: str) -> "StageReport":
        """Return the report callable of one stage."""
        self._close_bar()
        return StageReport(self, stage)

    def show(self, stage: str, done: float, total: float, figures: dict[str, float | str]) -> None:
        """Redraw the bar, or print a line when the last one is old."""
        text = "  ".join(f"{name} {_short(value)}" for name, value in figures.items())
        if OUT.is_terminal:
            if self._bar is None:
                columns = (
                    TextColumn("{task.description:9}"),
                    BarColumn(30),
                    TextColumn("{task.percentage:3.0f}%"),
                )
                self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=OUT)
                self._task = self._bar.add_task(stage, total=total, text=text)
                self._bar.start()
            assert self._task is not None
            self._bar.update(self._task, completed=done, total=total, text=text)
        now = time.monotonic()
        if now - self._line >= SECONDS_BETWEEN_LINES or done >= total:
            self._line = now
            line = f"{stage:9} {100 * done / max(total, 1e-9):3.0f}%  {text}"
            LOGGER.info(line)
            if not OUT.is_terminal:
                print(line, file=sys.stderr, flush=True)

    def check(self) -> None:
        """Raise `StoppedError` if somebody wants an end."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._stop = "the time given by --max-time is over"
        if self._stop:
            raise StoppedError(f"stopped: {self._stop}; the same command continues")

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stop:  # asked twice: everything on disk is whole at any moment
            raise StoppedError("stopped at once; the same command continues from the last checkpoint")
        self._stop = f"{signal.Signals(number).name} received"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class StageReport:
    """Report callable of one stage."""

    def __init__(self, watch: Watch, stage: str) -> None:
        self._watch = watch
        self._stage = stage

    def __call__(self, done: float, total: float, /, **figures: float | str) -> None:
        """Show progress; stop here if somebody asked."""
        self._watch.show(self._stage, done, total, figures)
        self._watch.check()


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
