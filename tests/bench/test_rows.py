import math
import sys
from pathlib import Path

import pytest

from gibbsian.bench import engine, tables
from gibbsian.bench.hardware import hardware
from gibbsian.bench.rows import Metric, Row, RowKey, read_row, read_rows
from gibbsian.cli.main import main
from gibbsian.errors import InputError
from gibbsian.progress import Report

KEY = RowKey("references", "AAA", "exchange", 2)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gibbsian", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    row = Row(KEY, {"ess": Metric(12.5, 0.5), "t_w2": Metric(0.3, math.inf, 0.2)}, {"steps": 10}, hardware())
    path = row.write(tmp_path)
    assert path == tmp_path / "references" / "AAA.exchange.seed2.json"
    back = read_row(path)
    assert back == row
    assert back.metrics["t_w2"].error is None, "JSON has no infinity"
    assert back.hardware["cores"] >= 1
    assert set(back.hardware["versions"]) >= {"openmm", "torch"}
    assert KEY.command == "gibbsian bench references --system AAA --row exchange --seed 2"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file stays"


@pytest.mark.parametrize("content", ["{", "{}", '{"table": 1}'])
def test_a_damaged_row_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    path = tmp_path / "engine" / "AAA.x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"AAA\.x\.json"):
        read_rows(tmp_path, "engine")


def test_rows_that_exist_are_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[RowKey] = []

    def run(key: RowKey, place: tables.Place, report: object) -> Row:
        made.append(key)
        return Row(key, {"rate": Metric(float(len(made)))})

    monkeypatch.setattr(engine, "run", run)
    keys, place = engine.rows()[:3], tables.Place(tmp_path)
    assert len(tables.make("engine", keys[:2], place)) == 2
    assert [p.name for p in tables.make("engine", keys, place)] == [keys[2].path(tmp_path).name]
    assert made == keys
    assert read_row(keys[0].path(tmp_path)).metrics["rate"].value == 1.0


def test_a_row_is_made_by_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place, keys = tables.Place(tmp_path / "results"), engine.rows()[:2]

    def run(key: RowKey, place: tables.Place, report: Report) -> Row:
        if key == keys[0]:
            with pytest.raises(InputError, match=r"another process is making this row; wait .*--results"):
                tables.make("engine", [key], place)
            tables.make("engine", keys[1:], place)  # other rows are free
        return Row(key, {})

    monkeypatch.setattr(engine, "run", run)
    assert len(tables.make("engine", keys[:1], place)) == 1
    monkeypatch.setattr(engine, "run", lambda key, place, report: Row(key, {}))
    keys[0].path(place.results).unlink()
    assert len(tables.make("engine", keys[:1], place)) == 1, "the lock ended with the row"


UNKNOWN = {
    "table": (["speed"], "engine, accuracy, references"),
    "system": (["engine", "--system", "AAB"], "AAA"),
    "row": (["engine", "--row", "fortran"], "torch-float32"),
    "seed": (["references", "--seed", "9"], "0, 1, 2"),
    "no seeds": (["engine", "--seed", "0"], "nothing in these rows is random"),
    "nothing to show": (["engine", "--show"], "no rows"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_names_exit_2_with_what_exists(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, known = UNKNOWN[case]
    assert call(monkeypatch, *arguments, "--results", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert known in error


def test_show_prints_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for seed in (0, 1):
        many = {f"free_energy ALA{k} left": Metric(2.0 + k, 0.05) for k in range(10)}
        Row(RowKey("references", "AAA", "exchange", seed), many).write(tmp_path)
    Row(RowKey("engine", "AAA", "torch-float32"), {"rate": Metric(123456.0, 700.0), "x": Metric(None)}).write(tmp_path)
    assert call(monkeypatch, "engine", "--show", "--results", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "torch-float32" in shown
    assert "rate" in shown
    assert "123\u202f500 ± 700" in shown
    assert "–" in shown
    assert call(monkeypatch, "references", "--show", "--seed", "1", "--results", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert shown.count("exchange") == 1
    assert "free_energy ALA9 left" in shown
    assert "11.00 ± 0.05" in shown


def test_rows_are_shown_in_the_order_of_their_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("full", "nll+kl", "nsf"):
        Row(RowKey("split-flow", "HP35-N27", name, 0), {"energy": Metric(1.0)}).write(tmp_path)
    assert call(monkeypatch, "split-flow", "--show", "--results", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert shown.index("nsf") < shown.index("nll+kl") < shown.index("full")
