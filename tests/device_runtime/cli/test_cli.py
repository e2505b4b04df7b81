import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from device_runtime.cli.forecast import command as forecast
from device_runtime.errors import InputError
from device_runtime.forecast.forecaster import Forecaster

BLOB = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt.etsa"


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_runtime.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    rows = [f"{item},{step},{80 + step % 5}" for item in "ab" for step in range(20)]
    path.write_text("item_id,timestamp,target\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("threads", ["atuo", "0", "65"])
def test_a_number_of_threads_that_is_none_is_told_what_is_one(threads: str, dummy_bundle: Path, series: Path) -> None:
    done = run("forecast", dummy_bundle, "--input", series, "--threads", threads)
    assert done.returncode == 2
    assert f"'--threads': '{threads}': want a number from 1 to 64, or auto" in done.stderr


def test_forecast_prints_a_row_for_each_item_and_step_and_names_base_and_adapter(
    dummy_bundle: Path, series: Path
) -> None:
    done = run("forecast", dummy_bundle, "--adapter", BLOB, "--input", series, "--prediction-length", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "item_id,step,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,base,adapter,unbound"
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


def test_an_item_that_cannot_be_forecast_is_named_and_left_out(dummy_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    tiny = [(7 + step % 3) * 1e-05 for step in range(12)]
    items = {
        "a": [80, 81, 82] * 4,
        "empty": [""] * 12,
        "few": [80] + [""] * 11,
        "huge": [1e38, -3e38, 2e38] * 4,
        "z": tiny,
    }
    rows = [f"{item},{step},{value}" for item, values in items.items() for step, value in enumerate(values)]
    path.write_text("\n".join(["item_id,timestamp,target", *rows]) + "\n")
    done = run("forecast", dummy_bundle, "--input", path, "--prediction-length", 1)
    assert done.returncode == 4
    assert [line for line in done.stderr.splitlines() if "left out" in line] == [
        "edge-tsfm-device: item empty left out: not one usable value",
        "edge-tsfm-device: item few left out: [500] 1 observed values in its last 12 steps, want 12 "
        "(--min-observed takes fewer, --interval a longer step)",
        "edge-tsfm-device: item huge left out: [501] the model's quantiles are not finite",
    ]
    lines = [line.split(",") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["item_id", "a", "z"]
    assert all(5e-05 < float(cell) < 2e-04 for cell in lines[2][2:11])  # significant digits: not 0.00
    records = json.loads(run("forecast", dummy_bundle, "--input", path, "--prediction-length", 1, "--json").stdout)
    wanted = Forecaster.open(dummy_bundle).forecast(items["z"], 1).quantiles
    np.testing.assert_array_equal(np.array(records[1]["quantiles"], dtype=np.float32), wanted)


def test_what_is_wrong_with_every_item_is_one_error(dummy_bundle: Path, series: Path) -> None:
    done = run("forecast", dummy_bundle, "--input", series, "--quantile-levels", "0.01")
    assert done.returncode == 1
    assert done.stderr.count("trained for") == 1
    assert "left out" not in done.stderr


@pytest.mark.parametrize("verb", ["forecast", "bench"])
def test_more_steps_than_the_base_reads_are_refused(dummy_bundle: Path, series: Path, verb: str) -> None:
    asked = ["--input", series] if verb == "forecast" else []
    done = run(verb, dummy_bundle, *asked, "--context-length", 65)
    assert done.returncode == 1
    assert "--context-length 65: base dummy-bolt reads at most 64 steps" in done.stderr


@pytest.mark.parametrize(("to", "status"), [("| true", 1), ("> /dev/full", 1), (">&-", 0)])
def test_a_reader_that_went_away_or_is_full_is_no_traceback(
    dummy_bundle: Path, series: Path, to: str, status: int
) -> None:
    line = f"set -o pipefail; {sys.executable} -m device_runtime.cli forecast {dummy_bundle} --input {series} {to}"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if to != "| true":  # which of the two is first is chance
        assert done.returncode == status
    assert ("No space left" in done.stderr) == (to == "> /dev/full")


def test_names_that_the_terminal_cannot_show_stop_nothing(dummy_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("item_id,target\n" + "".join(f"Müller→,{80 + k}\n" for k in range(3)))
    command = [sys.executable, "-m", "device_runtime.cli", "forecast", str(dummy_bundle), "--input", str(path)]
    done = subprocess.run(
        command, capture_output=True, check=False, env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PATH": ""}
    )
    assert b"Traceback" not in done.stderr


def test_a_monitor_without_settings_is_told_where_they_are_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "device_runtime.cli", "status", "--config", str(tmp_path / "device.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cannot read {tmp_path / 'device.toml'}: No such file" in done.stderr
    assert "hint: --config or EDGE_TSFM_DEVICE_CONFIG names the settings" in done.stderr


def test_the_exit_statuses_are_told_by_help() -> None:
    assert "4 done, but some items were left" in " ".join(run("--help").stdout.split())


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
        "--signal",
        "HR:20:300",
        "--prediction-length",
        2,
        stdin="\n".join(feed),
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[5]["error"] == 500
    assert "want name,t_ms,value" in answers[5]["message"]
    assert "observed steps, want 12" in answers[0]["message"]
    assert len(answers[-1]["quantiles"]) == 2
    assert answers[-1]["adapter_version"] == 3


def test_bench_reports_activation_and_forecast_times(dummy_bundle: Path) -> None:
    report = json.loads(run("bench", dummy_bundle, "--adapter", BLOB, "--runs", 3, "--json").stdout)
    assert 0 < report["forecast_ms_median"] <= report["forecast_ms_p95"]
    assert report["peak_memory_mb"] > 10
