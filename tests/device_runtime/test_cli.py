import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.cli.forecast import command as forecast
from device_runtime.errors import InputError

BLOB = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-bolt.etsa"


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_runtime.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    rows = [f"{item},{step},{80 + step % 5}" for item in "ab" for step in range(20)]
    path.write_text("item_id,timestamp,target\n" + "\n".join(rows) + "\n")
    return path


def test_forecast_prints_a_row_for_each_item_and_step_and_names_base_and_adapter(
    dummy_bundle: Path, series: Path
) -> None:
    done = run("forecast", dummy_bundle, "--adapter", BLOB, "--input", series, "--prediction-length", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "item_id,step,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,base,adapter"
    assert [line.split(",")[:2] for line in lines[1:]] == [[item, str(step)] for item in "ab" for step in (1, 2, 3)]
    assert all("none" not in line for line in lines[1:])


def test_forecast_as_json_has_full_digests(dummy_bundle: Path, series: Path) -> None:
    done = run("forecast", dummy_bundle, "--input", series, "--json", "--quantile-levels", "0.5")
    rows = json.loads(done.stdout)
    assert [row["item_id"] for row in rows] == ["a", "b"]
    assert len(rows[0]["base"]) == 64
    assert rows[0]["adapter"] is None


def test_a_context_length_below_one_is_a_usage_error_and_a_table_too_long_is_not_cut(
    dummy_bundle: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("forecast", dummy_bundle, "--input", series, "--context-length", "-3").returncode == 2
    monkeypatch.setattr("device_runtime.series.several.MAX_TABLE_SIZE", 10)
    result = CliRunner().invoke(forecast, [str(dummy_bundle), "--input", str(series)])
    assert isinstance(result.exception, InputError)


def test_errors_are_text_with_a_code_and_a_hint_and_exit_1(dummy_bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("item_id,value\na,1\n")
    done = run("forecast", dummy_bundle, "--input", bad, "--target", "HRV")
    assert done.returncode == 1
    assert done.stderr.startswith("edge-tsfm-device: error: [500]")
    assert "hint: name the values with --target" in done.stderr
    assert not done.stdout


def test_selftest_says_how_far_off_and_how_far_is_allowed(dummy_bundle: Path, tmp_path: Path) -> None:
    report = json.loads(run("selftest", dummy_bundle, "--adapter", BLOB, "--json").stdout)
    assert report["known_answer"]["off_by"] <= report["known_answer"]["allowed"]
    damaged = tmp_path / "damaged.etsa"
    data = bytearray(BLOB.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    done = run("selftest", dummy_bundle, "--adapter", damaged)
    assert done.returncode == 1
    assert "[101]" in done.stderr


def test_stream_answers_each_new_step_and_goes_on_after_a_bad_line(dummy_bundle: Path) -> None:
    feed = [f"HR,{60_000 * step},{80 + step % 3}" for step in range(14)]
    feed[5] = "nonsense"
    done = run(
        "stream",
        dummy_bundle,
        "--adapter",
        BLOB,
        "--channel",
        "HR:20:300",
        "--prediction-length",
        2,
        stdin="\n".join(feed),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[5]["error"] == 500
    assert "want channel,t_ms,value" in answers[5]["message"]
    assert "observed steps, want 12" in answers[0]["message"]
    assert len(answers[-1]["quantiles"]) == 2
    assert answers[-1]["adapter_version"] == 3


def test_bench_reports_activation_and_forecast_times(dummy_bundle: Path) -> None:
    report = json.loads(run("bench", dummy_bundle, "--adapter", BLOB, "--runs", 3, "--json").stdout)
    assert 0 < report["forecast_ms_median"] <= report["forecast_ms_p95"]
    assert report["peak_memory_mb"] > 10
