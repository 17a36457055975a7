"""Reports for tests of work that is stopped and continued."""

from gibbsian.errors import StoppedError
from gibbsian.progress import Report


def stop_at(done: float) -> Report:
    """Return a report that raises `StoppedError` as soon as so much is done, as a person would."""

    def report(now: float, total: float, /, **figures: float | str) -> None:
        if now >= done:
            raise StoppedError("stopped")

    return report
