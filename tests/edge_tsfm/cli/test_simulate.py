import json
from hashlib import sha256
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from edge_tsfm.cli.simulate import command
from edge_tsfm.errors import ConfigError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_writes_what_it_says(tmp_path: Path) -> None:
    out = tmp_path / "ward.parquet"
    facts = json.loads(
        run("--out", str(out), "--patients", "4", "--hours", "24", "--site", "B", "--seed", "2", "--json")
    )
    frame = pd.read_parquet(out)
    assert facts["rows"] == len(frame)
    assert facts["sha256"] == sha256(out.read_bytes()).hexdigest()
    assert frame.item_id.unique().tolist() == [f"B2-0000{k}" for k in range(4)]
    assert set(facts["signals"]) == {"HR", "MAP", "SBP", "DBP", "SpO2", "RESP", "TEMP"}
    assert list(tmp_path.iterdir()) == [out]


def test_the_same_command_writes_the_same_bytes_and_a_table_for_people(tmp_path: Path) -> None:
    options = ("--patients", "2", "--hours", "12", "--signals", "HR, O2Sat")
    text = run("--out", str(tmp_path / "a.csv"), *options)
    run("--out", str(tmp_path / "b.csv"), *options)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert "ward A, 2 patients" in text
    assert "SpO2" in text
    assert "MAP" not in text


def test_a_wrong_ending_is_refused_before_the_work(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "a.xlsx"), "--patients", "1000000"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.hint == "name it .parquet or .csv"


def test_wrong_options_are_usage_errors(tmp_path: Path) -> None:
    for wrong in (["--site", "C"], ["--patients", "0"], ["--hours", "1"], ["--hours", "nan"], ["--hours", "inf"]):
        assert CliRunner().invoke(command, ["--out", str(tmp_path / "a.csv"), *wrong]).exit_code == 2
