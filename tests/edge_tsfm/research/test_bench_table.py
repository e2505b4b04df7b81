"""A table of timings: goes on where it stopped, refuses to mix machines, and says when the machine was busy."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_tsfm.cli.bench_table import command
from edge_tsfm.errors import ConfigError
from edge_tsfm.research import idle
from edge_tsfm.research.bench import Case, Spread
from edge_tsfm.research.bench_page import doubts, page, text
from edge_tsfm.research.bench_table import BenchTable, Forecasts, Line, Setting, chosen, continued

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
SETTING = Setting(threads=1, runs=3)
LINE = Line(
    base="a base",
    family="chronos-bolt",
    precision="float32",
    bundle_mb=7.25,
    activation=Spread.of([40, 50, 60]),
    start_s=0.25,
    memory_mb=90,
    torch_start_s=4,
    torch_memory_mb=450,
    others=0.01,
    forecasts=(
        Forecasts(
            case="512 → 64",
            batch=1,
            spinning=True,
            torch=Spread.of([9, 10, 12]),
            runtime=Spread.of([2, 2.5, 4]),
            floor_ms=1.25,
        ),
    ),
)


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.mark.timeout(300)
def test_a_stopped_table_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    out, asked = tmp_path / "table.json", ["--threads", "1", "--runs", "3", "--batch", "1"]
    first = run("--base", DUMMY, "--precision", "float32", *asked, "--out", out)
    assert first.exit_code == 0, first.output
    before = json.loads(out.read_text())
    second = run(
        "--base", DUMMY, "--precision", "float32", "--precision", "float16", *asked,
        "--out", out, "--html", tmp_path / "table.html", "--json",
    )  # fmt: skip
    assert second.exit_code == 0, second.output
    after = json.loads(out.read_text())
    assert after["lines"][0] == before["lines"][0], "what was there is not timed again"
    assert [line["precision"] for line in after["lines"]] == ["float32", "float16"]
    for line in after["lines"]:
        assert len(line["forecasts"]) == 2, "asleep and spinning"
        for one, ratio in zip(line["forecasts"], line["ratios"], strict=True):
            assert ratio == pytest.approx(one["torch"]["median"] / one["runtime"]["median"])
            assert one["runtime"]["low"] <= one["runtime"]["median"] <= one["runtime"]["high"]
    assert 'alt="4 kinds of forecast' in (tmp_path / "table.html").read_text()


def test_a_saved_table_is_read_back_as_it_was(tmp_path: Path) -> None:
    table = BenchTable(setting=SETTING).having(LINE)
    table.save(tmp_path / "table.json")
    assert continued(tmp_path / "table.json", SETTING) == table
    assert continued(tmp_path / "none.json", SETTING) == BenchTable(setting=SETTING)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"processor": "another"}, "processor another"),
        ({"threads": 2}, "threads 2"),
        ({"runs": 9}, "runs 9"),
        ({"keep": "bitfit"}, "keep bitfit, this run has the default"),
        ({"batches": (1, 8)}, "batches 1, 8, this run has the default"),
    ],
)
def test_times_of_another_setting_are_not_mixed_in(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    BenchTable(setting=replace(SETTING, **change)).save(tmp_path / "table.json")
    with pytest.raises(ConfigError, match=named):
        continued(tmp_path / "table.json", SETTING)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "another"}', '{"schema": "edge-tsfm bench-table 1"}'])
def test_another_file_is_no_table_and_stays(content: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"not a table of bench-table|not JSON|setting is missing"):
        continued(path, SETTING)
    assert path.read_text() == content


def test_a_base_must_be_named(tmp_path: Path) -> None:
    done = run("--out", tmp_path / "table.json")
    assert done.exit_code == 2
    assert "--config" in done.output


def test_bases_that_a_table_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    done = run("--base", DUMMY, "--base", DUMMY, "--out", tmp_path / "table.json")
    assert done.exit_code == 2
    assert "two bases are named" in done.output


def test_what_to_keep_is_tried_before_anything_is_timed(tmp_path: Path) -> None:
    done = run("--base", DUMMY, "--keep", "nonsense", "--out", tmp_path / "table.json")
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "table.json").exists()


def test_batches_replace_those_of_the_family() -> None:
    known = [Case(batch=batch, context_length=512, prediction_length=64) for batch in (1, 32)]
    assert chosen(known, ()) == known
    assert [case.batch for case in chosen(known, (4, 8))] == [4, 8]


def test_text_and_page_have_every_figure() -> None:
    table = BenchTable(setting=SETTING).having(LINE)
    for written in (text(table), page(table)):
        for figure in (SETTING.processor, "4.0×", "1.25 ms", "16.0×", "1/5.0", "7.2 MB"):
            assert figure in written


def test_a_busy_machine_is_named() -> None:
    busy = BenchTable(setting=SETTING).having(replace(LINE, others=0.4))
    assert "other processes took 40 % of the processors' time" in text(busy)
    assert "other processes took 40 %" in page(busy)
    for others in (0.01, None):
        assert not list(doubts(BenchTable(setting=SETTING).having(replace(LINE, others=others))))


def test_what_others_take_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seconds = iter([100.0, 103.0])
    monkeypatch.setattr(idle, "_busy_s", lambda: next(seconds))
    monkeypatch.setattr(idle, "_own_s", lambda: 0.0)
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(idle.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(idle.os, "cpu_count", lambda: 2)
    assert idle.Others().share() == pytest.approx(3 / 20)


def test_its_own_work_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's work counts as own; the system's clock ticks coarsely, so only a bound holds."""
    before = idle._own_s()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert idle._own_s() > before
    monkeypatch.setattr(idle, "STAT", Path("/nowhere"))
    assert idle.Others().share() is None
