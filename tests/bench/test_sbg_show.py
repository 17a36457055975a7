import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gibbsian.bench import annealing_methods, sbg, sbg_ablations, sbg_speed
from gibbsian.bench.published import COLUMNS, published, table
from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.sbg_proposals import NETWORK
from gibbsian.bench.sbg_work import Desk
from gibbsian.bench.tables import Place
from gibbsian.cli.bench import Choice, list_table, show_table
from gibbsian.errors import InputError
from gibbsian.models.tarflow_config import TarFlowConfig


def printed(systems: set[str]) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(table(systems))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_published_numbers_are_those_of_the_specification() -> None:
    lines = [line for line in published() if line.system == "ACE-ALA-NME" and line.method == "SMC"]
    assert [line.draws for line in lines] == [10_000, 100_000]
    assert lines[1].figures["t_w2"] == Metric(0.226, 0.029)
    assert all(line.starred for line in lines)
    measured = {*sbg.BUDGETS, *(name.partition("@")[0] for name in annealing_methods.SIZES)}
    for line in published():
        assert line.system in measured, line
        assert line.figures, line
        assert set(line.figures) <= set(COLUMNS)
        # A hexapeptide by importance sampling has nothing like 90 %: such a number is starred or another system.
        if (line.figures.get("ess", Metric(0)).value or 0) > 0.5:
            assert line.starred or "internal" in line.note


def test_published_table_has_stars_and_traps() -> None:
    text = printed({"AAA"})
    assert "0.907*" in text
    assert "1.314 ± 0.409" in text
    assert text.count("Not comparable") == 1
    for mark in ("(2)", "(3)", "(4)"):
        assert mark in text
    assert "ACE-ALA-NME" not in text
    assert table({"ubiquitin"}) is None


def test_ablations_are_made_only_when_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keys = sbg.rows()
    assert len({(k.system, k.row, k.seed) for k in keys}) == len(keys)
    plain = Choice("sbg").of(keys)
    assert plain
    assert not any(sbg_ablations.owns(key) for key in plain)
    for name in sbg_ablations.NAMES:
        found = Choice("sbg", ablation=name).of(keys)
        assert found, name
        assert {key.system for key in found} == {"ACE-ALA-NME"}
    assert {key.system for key in Choice("sbg", system="AAA", ablation="tau").of(keys)} == {"AAA"}
    with pytest.raises(InputError, match="unknown 'size'; choose one of com"):
        Choice("sbg", ablation="size").of(keys)
    with pytest.raises(InputError, match="the table engine has none"):
        Choice("engine", ablation="com").of([])
    list_table(Choice("sbg", ablation="com"), tmp_path)
    assert "core-hours are left" in capsys.readouterr().out


def test_every_row_has_an_estimate() -> None:
    assert all(0 < sbg.estimate(key) < 100 * 3600 for key in sbg.rows())


def test_show_has_the_telling_columns_beside_the_published(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    metrics = {"ess_fraction": Metric(0.04, 0.01), "e_w1": Metric(0.5, 0.1, 0.2), "free_energy ALA2 left": Metric(4.0)}
    Row(RowKey("sbg", "AAA", "soft.snis@10k", 0), metrics).write(tmp_path)
    Row(RowKey("sbg", "AAA", "soft.curve", 0), {"step 3: nll": Metric(1.0)}).write(tmp_path)
    show_table(Choice("sbg"), tmp_path)
    text = capsys.readouterr().out
    assert "0.50 ± 0.10 (floor 0.2)" in text
    assert "flow + SNIS" in text
    assert "free_energy" not in text
    assert "soft.curve" not in text
    show_table(Choice("sbg", row="soft.curve"), tmp_path)
    assert "step 3: nll" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{}, {**NETWORK, "head": 16, "gauge": "frame"}])
def test_sampling_without_a_cache_gives_the_same_tokens(changes: dict, tmp_path: Path) -> None:
    desk = Desk.of("ACE-ALA-NME", sbg.BUDGETS["ACE-ALA-NME"], Place(tmp_path))
    flow = sbg_speed.untrained(desk, TarFlowConfig(**{"blocks": 2, "depth": 1, "width": 16, "head": 16, **changes}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    z = torch.randn(3, *flow.mask.shape, generator=generator) * flow.mask
    cached = sbg_speed.inverted(flow, z, recompute=False)
    assert not torch.allclose(cached, z, atol=1e-2)
    assert torch.allclose(sbg_speed.inverted(flow, z, recompute=True), cached, atol=1e-4)
