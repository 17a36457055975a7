from pathlib import Path

import pytest
import torch
from torch import Tensor

from gibbsian.progress import Report
from gibbsian.testing.training import check_buffer, check_resumable
from gibbsian.training.buffer import Buffer


class Stale(Buffer):
    """Pretends that every sample came from the second generator."""

    def add(self, x: Tensor, u: Tensor, log_q: Tensor) -> float:
        return super().add(x, u, -0.5 * ((x[:, 0, 0] + 1.0) / 1.5).square())


def test_buffer_keeps_the_density_of_each_generator() -> None:
    check_buffer(Buffer)
    with pytest.raises(AssertionError, match="densities"):
        check_buffer(Stale)


def counting(folder: Path, report: Report, forget: bool) -> dict[str, Tensor]:
    """Train a number: each step adds its own index, saved in a file."""
    folder.mkdir(exist_ok=True)
    state = folder / "state"
    step, value = map(int, state.read_text().split()) if state.exists() and not forget else (0, 0)
    value = value if not forget or not state.exists() else int(state.read_text().split()[1])
    while step < 10:
        step, value = step + 1, value + step + 1
        state.write_text(f"{step} {value}")
        report(step, 10)
    return {"value": torch.tensor(value)}


def test_resuming_is_checked(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    check_resumable(lambda folder, report: counting(folder, report, forget=False), tmp_path / "good", (2, 5))
    with pytest.raises(AssertionError, match="value differs"):
        check_resumable(lambda folder, report: counting(folder, report, forget=True), tmp_path / "bad", (2, 5))
