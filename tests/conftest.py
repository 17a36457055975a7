"""Settings shared by tests of whole runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

# Two test processes share two cores; sums in other numbers of threads differ in the last bit.
torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "system": {"source": "ACE-ALA-NME"},
    "data": {
        "temperatures": [300.0, 400.0, 530.0, 700.0],
        "ladders": 12,
        "steps": 500,
        "equilibration": 100,
        "exchange_every": 50,
        "save_every": 50,
        "shard": 5,
        "start_steps": 200,
    },
    "model": {"couplings": [2, 2, 2], "hidden": 16, "depth": 1, "bins": 4},
    "stages": [{"name": "nll", "steps": 40, "batch": 64, "warmup": 5}],
    "training": {"evaluate_every": 10, "checkpoint_every": 10},
    "sampling": {"n": 2000},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A run.yaml that takes seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path
