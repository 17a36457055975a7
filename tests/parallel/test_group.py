import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from worker import everything, trained

import gibbsian
from gibbsian.ensemble.ensemble import Ensemble
from gibbsian.parallel.group import collect, first_does, joined, my_rows, rank, size, total
from gibbsian.parallel.launch import launched, launched_first

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of what one and two processes made."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    everything(alone)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(WORKER), str(together)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return alone, together


def log_of(folder: Path) -> list[dict[str, float | str]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_keys(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Leave out biases of attention keys: their gradient is zero but for rounding, which AdamW scales to full steps."""
    return tensor.reshape(3, -1)[[0, 2]] if name.endswith("qkv.bias") else tensor


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spline", "tarflow"])
def test_two_processes_train_as_one(both, kind):
    alone, together = (log_of(folder / kind) for folder in both)
    assert [line["step"] for line in alone] == [line["step"] for line in together]
    for mine, theirs in zip(alone, together, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert theirs[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-6)), name
    one, two = (torch.load(folder / f"{kind}.pt", weights_only=True) for folder in both)
    for name, tensor in one.items():
        assert torch.allclose(*(without_keys(name, t) for t in (tensor, two[name])), rtol=1e-5, atol=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spline", "tarflow"])
def test_one_process_continues_what_two_began(both, kind):
    for folder in both:
        finished = trained(kind, folder / f"{kind}-stopped")
        wanted = torch.load(folder / f"{kind}.pt", weights_only=True)
        for name, tensor in finished.state_dict().items():
            pair = (without_keys(name, t) for t in (tensor, wanted[name]))
            assert torch.allclose(*pair, rtol=1e-5, atol=1e-6), name
    assert (both[1] / f"{kind}-stopped-first").exists()
    assert (both[1] / f"{kind}-stopped-other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["snis", "smc"])
def test_two_processes_sample_the_same_bits_as_one(both, method):
    one, two = (Ensemble.load(folder / method) for folder in both)
    for name in ("positions", "log_w", "u", "log_q"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.provenance == two.provenance
    if method == "smc":
        assert any(level["resampled"] for level in one.provenance["levels"])
        assert np.array_equal(one.lineage, two.lineage)


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_refused_in_one_line(both):
    one = json.loads((both[0] / "messages-first.json").read_text())
    assert one == {"kl": "", "batch": "", "processes": 1, "failure": "only here"}
    for name in ("first", "other"):
        found = json.loads((both[1] / f"messages-{name}.json").read_text())
        assert found["processes"] == 2
        assert "one process only" in found["kl"]
        assert "raise batch" in found["batch"]
        assert found["failure"] == "only here"


def test_one_process_needs_no_group():
    with joined():
        assert (size(), rank(), launched(), launched_first()) == (1, 0, 1, True)
        assert my_rows(7) == slice(0, 7)
        assert collect("a") == ["a"]
        assert first_does(lambda: 3) == 3
        assert int(total(torch.tensor(4))) == 4


def test_rows_are_divided_without_gaps(monkeypatch):
    from gibbsian.parallel import group

    monkeypatch.setattr(group, "size", lambda: 3)
    parts = []
    for k in range(3):
        monkeypatch.setattr(group, "rank", lambda k=k: k)
        parts.append(list(range(10))[my_rows(10)])
    assert [row for part in parts for row in part] == list(range(10))
    assert {len(part) for part in parts} == {3, 4}


def test_only_this_layer_talks_to_other_processes():
    package = Path(gibbsian.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith("torch.distributed") for name in names):
                assert path.parent.name == "parallel", path
