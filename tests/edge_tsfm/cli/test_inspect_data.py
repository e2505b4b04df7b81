"""`inspect` of data: what train takes, and exactly what train reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_tsfm.cli.inspect import TRAINING, command
from edge_tsfm.cli.inspect_data import PLOT_HEIGHT, plot
from edge_tsfm.cli.train import command as train_command
from edge_tsfm.data.series import Series
from edge_tsfm.errors import DataError
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig

TESTS = Path(__file__).resolve().parents[2]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_it_takes_what_train_takes() -> None:
    theirs = {one for parameter in train_command.params if parameter.name not in TRAINING for one in parameter.opts}
    ours = {one for parameter in command.params for one in parameter.opts}
    assert theirs <= ours
    # What every reader's hint may name, and what decides the split and the windows.
    assert ours >= {
        "--target", "--id-column", "--timestamp-column", "--interval", "--unit", "--ids-across-files", "--split-by",
        "--block-length", "--context-length", "--prediction-length", "--config",
    }  # fmt: skip
    assert not ours & {"--out", "--method", "--base", "--steps"}


@pytest.mark.parametrize("split_by", ["item", "time"])
def test_it_says_what_a_run_records(make_ward: Callable[[int], Path], tmp_path: Path, split_by: str) -> None:
    if split_by == "item":
        data, lengths = make_ward(200), {"context_length": 24, "prediction_length": 4}
    else:
        data, lengths = tmp_path / "long.csv", {"context_length": 12, "prediction_length": 4, "split_by": "time"}
        wave = 80 + 5 * np.sin(np.arange(3_000) / 9)
        data.write_text("timestamp,HR\n" + "".join(f"{k},{value:.2f}\n" for k, value in enumerate(wave)))
    config = TrainConfig(
        data=str(data), target="HR", interval="1h", base=str(TESTS / "dummy_bases" / "chronos-bolt"), method="bitfit",
        steps=1, batch_size=8, evaluate_every=1, **lengths,
    )  # fmt: skip
    record = train(config, tmp_path / "run", force=True).record
    asked = [f"--{key.replace('_', '-')}={value}" for key, value in lengths.items()]
    facts = json.loads(invoke(data, "--target", "HR", "--interval", "1h", *asked, "--json").stdout)
    assert facts["fingerprint"] == record["data"]["fingerprint"]
    assert {part: facts["split"][part]["windows"] for part in ("train", "stopping", "gate")} == {
        part: record["windows"][part] for part in ("train", "stopping", "gate")
    }
    report = json.loads(json.dumps(record["data"]["report"]))
    assert {key: facts[key] for key in report} == report
    assert facts["split_by"] == split_by


def test_in_words_with_conflicts_what_has_no_value_and_a_plot(tmp_path: Path) -> None:
    rows = [f"p{p},2026-03-01 {hour:02d}:00,{60 + 10 * p + hour}" for p in range(2) for hour in range(20)]
    rows += ["p0,2026-03-01 05:00,99", "empty,2026-03-01 00:00,", "empty,2026-03-01 01:00,0"]
    (tmp_path / "ward.csv").write_text("\n".join(["item_id,timestamp,MAP", *rows]) + "\n")
    asked = ("--target", "MAP", "--context-length", 12, "--prediction-length", 4)
    result = invoke(tmp_path / "ward.csv", *asked)
    if result.exit_code:  # one row in 41 is more than a small share: say what becomes of it
        result = invoke(tmp_path / "ward.csv", *asked, "--duplicates", "median")
    assert result.exit_code == 0, result.exception
    for said in ("2 items, 2 series", "every 1h", "without one usable value: empty", "values 60 to", "  train ", "•"):
        assert said in result.stdout, said
    assert "1 rows of one time with different values" in result.stdout
    assert len(result.stdout.splitlines()) > PLOT_HEIGHT


def test_without_a_target_the_columns_and_errors_name_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("item_id,timestamp,HR,MAP\na,2026-03-01 00:00,80,60\na,2026-03-01 01:00,81,\n")
    listed = invoke(tmp_path / "t.csv")
    assert listed.exit_code == 0, listed.exception
    assert all(name in listed.stdout for name in ("item_id", "timestamp", "HR", "MAP"))
    result = invoke(tmp_path / "t.csv", "--target", "SpO2")
    assert isinstance(result.exception, DataError)
    assert "is neither a bundle, an adapter blob, a run nor such data: " in str(result.exception)
    assert "HR" in f"{result.exception} {result.exception.hint}"
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    assert isinstance(invoke(nothing).exception, DataError)


def test_options_of_data_are_refused_for_what_is_none() -> None:
    result = invoke(TESTS / "dummy_bases" / "chronos-bolt.etsa", "--interval", "1h")
    assert result.exit_code == 2
    assert "--interval is for data" in result.stderr


def series(values: list[float]) -> Series:
    return Series(item_id="a", signal="HR", interval=1.0, target=np.array(values, dtype=np.float32))


def test_a_plot_has_its_extremes_on_its_edges_and_holes_where_nothing_was_measured() -> None:
    lines = plot(series([1, 2, float("nan"), 8, 4.5]))[1:]
    assert len(lines) == PLOT_HEIGHT
    assert lines[0] == "8 |   •"
    assert lines[-1] == "1 |•"
    assert sum(line.count("•") for line in lines) == 4
    flat = plot(series([5, 5, 5]))[1:]
    assert flat[-1] == "5 |•••"
    assert len(plot(series(list(range(10_000))))[1]) < 90


def test_plain_steps_are_shown_as_the_file_counts_them(tmp_path: Path) -> None:
    data = tmp_path / "steps.csv"
    data.write_text("step,HR\n" + "".join(f"{step},{70 + step % 7}\n" for step in range(2, 92, 3)))
    result = invoke(data, "--target", "HR")
    assert result.exit_code == 0, result.output
    assert "steps 2 to 89:" in result.output
