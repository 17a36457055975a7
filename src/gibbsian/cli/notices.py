"""Warnings as a person at a terminal wants them: what, once, without the line of code that raised it."""

import sys
import warnings
from typing import TextIO

from gibbsian.parallel.launch import launched_first


def short_warnings() -> None:
    """Print a `UserWarning` as one line, from one process, and the same one never again; leave others as they are."""
    said: set[str] = set()
    full = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is not UserWarning:
            full(message, category, filename, lineno, file, line)
        elif str(message) not in said and launched_first():
            said.add(str(message))
            print(f"gibbsian: warning: {message}", file=sys.stderr)

    warnings.showwarning = show
