"""`inspect` without ``--target``: what a data file holds, and what its columns may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_tsfm.cli.inspect import command
from edge_tsfm.errors import DataError

SHARED = Path(__file__).resolve().parents[4] / "shared"


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_the_columns_of_a_table_with_counts_ranges_and_guesses(tmp_path: Path) -> None:
    path = tmp_path / "ward.csv"
    path.write_text(
        "patient,hour,heart_rate,Temp [°F],load,ward\n"
        "007,0,80,98.6,0.5,north\n007,1,,99.1,0.25,north\n008,0,91,,1.5,south\n008,1,64,101,2,south\n"
    )
    facts = json.loads(inspect(path, "--json").stdout)
    assert (facts["rows"], facts["items"]) == (4, 2)
    columns = {one.pop("column"): one for one in facts["columns"]}
    assert columns["patient"] == {"values": 4, "missing": 0, "kinds": 2, "is": "identity"}
    assert columns["hour"]["is"] == "time"
    assert columns["heart_rate"] == {
        "values": 3, "missing": 1, "low": 64, "high": 91, "signal": "HR", "unit": "1/min", "loinc": "8867-4",
    }  # fmt: skip
    assert columns["Temp [°F]"]["signal"] == "TEMP"
    assert columns["Temp [°F]"]["unit"] == "degF"
    assert columns["load"] == {"values": 4, "missing": 0, "low": 0.25, "high": 2}  # another domain's: no guess
    assert columns["ward"] == {"values": 4, "missing": 0, "kinds": 2}
    text = inspect(path).stdout
    assert "heart_rate  3 values (25 % missing), 64 to 91: by its name HR [1/min, LOINC 8867-4]" in text
    assert "--target NAME" in text


def test_a_table_without_a_time_is_listed_too_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "ward.csv"
    path.write_text("who,HR\n1,80\n2,90\n")
    facts = json.loads(inspect(path, "--json").stdout)
    assert [one["column"] for one in facts["columns"]] == ["who", "HR"]
    assert "timestamp" in facts["note"]


def test_events_are_listed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "subject_id,charttime,itemid,valuenum,valueuom\n"
        "1,2101-01-01 00:00:00,220045,80,bpm\n1,2101-01-01 01:00:00,220045,90,bpm\n1,2101-01-01 01:00:00,9,,x\n"
    )
    facts = json.loads(inspect(path, "--json").stdout)
    assert facts["signals"][0] == {
        "event": "220045", "values": 2, "missing": 0, "low": 80, "high": 90, "signal": "HR", "unit": "1/min",
        "loinc": "8867-4",
    }  # fmt: skip
    assert facts["signals"][1] == {"event": "9", "values": 0, "missing": 1}


@pytest.mark.skipif(not (SHARED / "data" / "wfdb_numerics").is_dir(), reason="the WFDB sample is not here")
def test_the_signals_of_wfdb_records() -> None:
    facts = json.loads(inspect(SHARED / "data" / "wfdb_numerics", "--json").stdout)
    assert facts["layout"] == "WFDB"
    assert any(one.get("signal") == "HR" for one in facts["signals"])


def test_what_is_nothing_at_all_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.toml"
    path.write_text("a = 1\n")
    error = inspect(path).exception
    assert isinstance(error, DataError)
    assert "neither a bundle, an adapter blob, a run nor data" in str(error)
