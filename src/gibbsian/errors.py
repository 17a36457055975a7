"""Errors that the command line turns into one line and an exit code."""


class GibbsianError(Exception):
    """Base class; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(GibbsianError, ValueError):
    """Bad input. The message says what, where, what was got and what to do, in one line."""

    exit_code = 2


class UnreliableError(GibbsianError):
    """The run finished but its result must not be believed."""

    exit_code = 3


class OutOfMemoryError(GibbsianError, MemoryError):
    """Out of memory even after halving the batch."""

    exit_code = 4


class StoppedError(GibbsianError):
    """Stopped early with everything saved; the same command continues."""

    exit_code = 75
