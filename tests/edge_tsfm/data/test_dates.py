"""How dates are written, by every way in: CSV, Parquet, frames, folders, commands, TOML and Python."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import edge_tsfm as et
from edge_tsfm.cli import cli
from edge_tsfm.data import DataOptions, read_dataset
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.training.config import load_config
from tests.support.both_readers import same_on_both

HOURS = pd.date_range("2024-12-30 20:00", periods=40, freq="h")
WRITTEN = {"MM/DD/YYYY": "%m/%d/%Y %I:%M %p", "DD/MM/YYYY": "%d/%m/%Y %H:%M", "DD.MM.YY": "%d.%m.%y %H:%M:%S"}


def frame(code: str) -> pd.DataFrame:
    return pd.DataFrame({"patient": "7", "timestamp": HOURS.strftime(code), "HR": range(60, 100)})


@pytest.mark.parametrize("date_format", WRITTEN)
def test_every_reader_reads_it(tmp_path: Path, date_format: str) -> None:
    table, options = frame(WRITTEN[date_format]), DataOptions(date_format=date_format)
    table.to_csv(tmp_path / "ward.csv", index=False)
    table.to_parquet(tmp_path / "ward.parquet")
    (tmp_path / "many").mkdir()
    table[:20].to_csv(tmp_path / "many" / "a.csv", index=False)
    table[20:].to_csv(tmp_path / "many" / "b.csv", index=False)
    plain = read_dataset(frame("%Y-%m-%d %H:%M"), target="HR")
    for source in (tmp_path / "ward.csv", tmp_path / "ward.parquet", tmp_path / "many", table):
        assert read_dataset(source, options, target="HR").fingerprint == plain.fingerprint
        with pytest.raises(DataError, match="where a timestamp is needed") as refused:
            read_dataset(source, target="HR")
        assert f"--date-format {date_format}" in str(refused.value.hint)
    same_on_both(tmp_path / "ward.csv", "HR", date_format=date_format)
    assert same_on_both(tmp_path / "ward.csv", "HR").hint == refused.value.hint


def test_times_that_are_no_text_have_no_format(tmp_path: Path) -> None:
    pd.DataFrame({"patient": "7", "timestamp": HOURS, "HR": range(60, 100)}).to_parquet(tmp_path / "ward.parquet")
    with pytest.raises(DataError, match="no dates that are text"):
        read_dataset(tmp_path / "ward.parquet", DataOptions(date_format="DD.MM.YYYY"), target="HR")


def test_commands_and_files_say_it(tmp_path: Path) -> None:
    frame(WRITTEN["MM/DD/YYYY"]).to_csv(tmp_path / "ward.csv", index=False)
    asked = ["inspect", str(tmp_path / "ward.csv")]
    listed = CliRunner().invoke(cli, [*asked, "--date-format", "MM/DD/YYYY"])
    assert listed.exit_code == 0, listed.output
    assert "timestamp  40 values, 40 different: time" in listed.output
    told = CliRunner().invoke(cli, [*asked, "--target", "HR", "--date-format", "MM/DD/YYYY"])
    assert "2024-12-30 20:00:00 to 2025-01-01 11:00:00" in told.output, told.output
    (tmp_path / "run.toml").write_text('data = "ward.csv"\ntarget = "HR"\ndate_format = "MM/DD/YYYY"\n')
    config = load_config(tmp_path / "run.toml", {})
    assert config.reading == DataOptions(date_format="MM/DD/YYYY")
    with pytest.raises(ConfigError, match="want DD, MM and YYYY"):
        load_config(tmp_path / "run.toml", {"date_format": "US"})


def test_options_in_python_that_are_none_are_named_with_what_was_meant(tmp_path: Path) -> None:
    for options, meant in (({"dateformat": "DD.MM.YY"}, "date_format"), ({"intervall": "1h"}, "interval")):
        with pytest.raises(ConfigError, match="unknown key") as refused:
            et.train(frame("%Y"), target="HR", out=tmp_path / "run", **options)
        assert str(refused.value.hint).startswith(f"did you mean {meant}? ")
        with pytest.raises(ConfigError, match="unknown key") as refused:
            et.forecast(tmp_path, frame("%Y"), target="HR", **options)
        assert str(refused.value.hint).startswith(f"did you mean {meant}? ")
    with pytest.raises(ConfigError, match="past_covariates: want a list of texts"):
        et.forecast(tmp_path, frame("%Y"), target="HR", past_covariates="MAP")
