import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from gibbsian.cli.notices import short_warnings


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is shown as it would be without the package."""
    found: list[str] = []

    def show(message: Any, *_: Any) -> None:
        found.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        yield found


def test_a_warning_is_one_line_said_once(others: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    short_warnings()
    for text in ("the ring of proline 4", "the ring of proline 4", "another"):
        warnings.warn(text, stacklevel=1)
    warnings.warn("of a library", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "gibbsian: warning: the ring of proline 4\ngibbsian: warning: another\n"
    assert others == ["of a library"]


def test_other_processes_of_torchrun_do_not_repeat_it(
    others: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    short_warnings()
    warnings.warn("the ring of proline 4", stacklevel=1)
    assert capsys.readouterr().err == ""
    assert others == []
