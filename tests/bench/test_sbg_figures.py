import pytest

from gibbsian.bench.rows import Metric, Row, RowKey
from gibbsian.bench.sbg_figures import figures
from gibbsian.cli.bench import Choice, draw_figures
from gibbsian.errors import InputError

ADP = "ACE-ALA-NME"


def row(name: str, seed: int | None = None, **metrics: float) -> Row:
    return Row(RowKey("sbg", ADP, name, seed), {key: Metric(value) for key, value in metrics.items()})


def curve(name: str, seed: int, points: dict[int, tuple[float, float]]) -> Row:
    metrics = {}
    for step, (cost, fraction) in points.items():
        metrics[f"step {step}: core_seconds_training"] = cost
        metrics[f"step {step}: ess_fraction"] = fraction
    return row(f"{name}.curve", seed, **metrics)


def test_figures_follow_the_rows():
    rows = [
        curve("local", 0, {100: (10.0, 0.05), 200: (20.0, 0.2)}),
        curve("frame", 1, {100: (12.0, 0.01)}),
        row("speed.inference", proposal_seconds=3.0, snis_seconds=4.0, draw_seconds=3.0),
        row("ablation-steps.chi3.h.K10", e_w1=2.0, t_w2=0.5),
        row("ablation-steps.chi3.h.K30", e_w1=1.5, t_w2=0.4),
        row("ablation-steps.chi3.hK.K30", e_w1=9.0, t_w2=9.0),
    ]
    drawn = figures(rows)
    assert set(drawn) == {f"ess_against_cost_{ADP}", f"distance_against_levels_{ADP}", "inference_time"}
    text = drawn[f"ess_against_cost_{ADP}"]
    assert "local, frame, seed 1" in text
    assert all(svg.lstrip().startswith("<svg") for svg in drawn.values())
    assert figures([row("data", e_w1=1.0)]) == {}


def test_figures_are_written_or_refused_in_one_line(tmp_path, capsys):
    curve("local", 0, {100: (10.0, 0.05), 200: (20.0, 0.2)}).write(tmp_path)
    draw_figures(Choice("sbg"), tmp_path, tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == [f"ess_against_cost_{ADP}.svg"]
    assert "ess_against_cost" in capsys.readouterr().out
    with pytest.raises(InputError, match="engine: no figures"):
        draw_figures(Choice("engine"), tmp_path, tmp_path / "figures")
    row("data").write(tmp_path)
    with pytest.raises(InputError, match="no figures of these rows"):
        draw_figures(Choice("sbg", row="data"), tmp_path, tmp_path / "figures")
