"""A run on one long series: split by time, judged and scored over blocks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from edge_tsfm.cli.evaluate import command
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.runs.run import Run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from tests.support.rounding import ANY_ORDER

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
HOURS = 2_400


def write(path: Path, hours: int, column: str = "load") -> Path:
    draw = np.random.default_rng(3)
    hour = np.arange(hours)
    values = 50 + 10 * np.sin(hour * 2 * np.pi / 24) + 5 * np.sin(hour / 60) + draw.normal(0, 1, hours)
    frame = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=hours, freq="1h"), column: values.round(2)})
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("long") / "machine.csv", HOURS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = TrainConfig(
        data=str(data), target="load", split_by="time", block_length=8, season="1d", base=str(DUMMY), method="bitfit",
        context_length=24, prediction_length=4, train_stride=1, steps=60, batch_size=32, evaluate_every=20,
        warmup_steps=5,
    )  # fmt: skip
    return train(config, tmp_path_factory.mktemp("by_time") / "run")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_the_gate_judges_blocks_and_the_run_records_where_it_was_split(run: Run) -> None:
    record = json.loads((run.path / "run.json").read_text())
    assert record["data"]["split"]["by"] == "time"
    begin = pd.Timestamp("2020-01-01")
    edges = [(pd.Timestamp(edge, unit="us") - begin) / pd.Timedelta("1h") for edge in record["data"]["split"]["edges"]]
    assert edges == [0.6 * HOURS, 0.7 * HOURS, 0.8 * HOURS]
    gate = run.windows("gate")
    assert record["gate"]["patients"] == len(np.unique(gate.drawn)) >= 20
    assert f"on {record['gate']['patients']} blocks" in record["gate"]["reason"]
    assert run.windows("train").cutoff.max() < run.windows("stopping").cutoff.min() - 24
    assert gate.cutoff.max() < run.windows("test").cutoff.min() - 24


def test_evaluate_scores_the_last_fifth_over_blocks_beside_the_seasonal_forecast(run: Run) -> None:
    record = json.loads(invoke(run.path, "--json", "--resamples", 100).stdout)
    assert record["bootstrap"]["unit"] == "block"
    assert record["data"]["split_by"] == "time"
    assert record["patients"] == len(np.unique(run.windows("test").drawn))
    assert "seasonal_naive" in record["models"]
    assert "seasonal_naive" in record["adapter_minus_baselines"]
    assert any("a later time of these series, not for others" in note for note in record["notes"])
    longer = json.loads(invoke(run.path, "--json", "--resamples", 100, "--block-length", 48).stdout)
    assert longer["patients"] < record["patients"]
    assert longer["models"]["base"]["wql"]["value"] == pytest.approx(
        record["models"]["base"]["wql"]["value"], rel=ANY_ORDER
    )


def test_the_page_and_the_table_speak_of_blocks(run: Run, tmp_path: Path) -> None:
    result = invoke(run.path, "--resamples", 100, "--html", tmp_path / "a.html")
    for text in (result.stdout, (tmp_path / "a.html").read_text()):
        assert "patient" not in text
        assert "blocks" in text


@pytest.mark.parametrize("part", ["train", "all"])
def test_the_time_it_was_trained_on_is_refused_unless_asked_for(run: Run, part: str) -> None:
    refused = invoke(run.path, "--split", part)
    assert isinstance(refused.exception, DataError)
    assert "show nothing about a later time" in str(refused.exception)
    asked = invoke(run.path, "--split", part, "--allow-trained-patients", "--resamples", 100)
    assert "NOT figures for a later time" in asked.stdout


def test_a_file_that_grew_is_tested_from_the_same_date(run: Run, tmp_path: Path) -> None:
    grown = write(tmp_path / "machine.csv", HOURS + 480)
    before, after = (
        json.loads(invoke(run.path, *more, "--json", "--resamples", 100).stdout) for more in ((), (grown,))
    )
    assert after["windows"] - before["windows"] == 480 // 4


def test_another_series_is_scored_whole(run: Run, tmp_path: Path) -> None:
    other = write(tmp_path / "another.csv", 480)
    record = json.loads(invoke(run.path, other, "--split", "all", "--json", "--resamples", 100).stdout)
    assert record["notes"] == []
    assert record["bootstrap"]["unit"] == "block"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split_by": "week"}, "item or time"),
        ({"block_length": 8}, "split_by = 'time'"),
        ({"split_by": "time", "block_length": 3}, "shorter than prediction_length"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig.from_dict({"data": "x.csv", **given})
