"""`edge-tsfm forecast`: every series that can be forecast is, the others are named; numbers come back whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from device_runtime.forecast.forecaster import Forecaster
from edge_tsfm.cli.forecast import command
from edge_tsfm.errors import ConfigError, DataError

BUNDLE = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt-bundle"
LEVELS = [f"{k / 10:g}" for k in range(1, 10)]


def invoke(data: Path, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(BUNDLE), str(data), "--min-observed", "1", *map(str, arguments)])


def write(path: Path, items: dict[str, list[float | str]]) -> Path:
    rows = [f"{item},{step},{value}" for item, values in items.items() for step, value in enumerate(values)]
    path.write_text("\n".join(["item_id,timestamp,flow", *rows]) + "\n")
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    wave = [round(80 + 5 * np.sin(k / 3), 3) for k in range(20)]
    return write(
        tmp_path / "ward.csv",
        {"a": wave, "empty": [""] * 5, "huge": [1e38, -3e38, 2e38], "late": [*wave[:2], *[""] * 8], "z": wave[::-1]},
    )


def test_what_cannot_be_forecast_is_named_and_left_out(mixed: Path) -> None:
    result = invoke(mixed, "--target", "flow", "--prediction-length", 2, "--context-length", 6)
    assert result.exit_code == 4, result.output
    assert result.stderr.splitlines() == [
        "edge-tsfm: item empty left out: not one usable value",
        "edge-tsfm: item late, segment 0 left out: flow has 0 observed values in the last 6 steps, want 1: "
        "--min-observed takes fewer, --interval a longer step",
        "edge-tsfm: item huge, segment 0 left out: [501] the model's quantiles are not finite",
    ]
    rows = [line.split(",")[:3] for line in result.stdout.splitlines()[1:]]
    assert rows == [["a", "0", "1"], ["a", "0", "2"], ["z", "0", "1"], ["z", "0", "2"]]
    record = json.loads(
        invoke(mixed, "--target", "flow", "--prediction-length", 1, "--context-length", 6, "--json").stdout
    )
    assert list(record["left_out"]) == ["item empty", "item late, segment 0", "item huge, segment 0"]
    assert len(record["forecasts"]) == 2


def test_nothing_left_out_is_exit_0_and_nothing_left_is_an_error(tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv", {"a": [80, 81, 82], "b": [70, 71, 72]})
    assert invoke(good, "--target", "flow").exit_code == 0
    none = write(tmp_path / "none.csv", {"a": [80, 81, *[""] * 8], "b": [""] * 3})
    result = invoke(none, "--target", "flow", "--context-length", 4)
    assert isinstance(result.exception, DataError)
    assert "none of its 2 series can be forecast; item a, segment 0: flow has 0 observed" in str(result.exception)


def test_numbers_have_significant_digits_and_read_back_whole(tmp_path: Path) -> None:
    values = [7e-05 * (1 + 0.02 * np.sin(k)) for k in range(12)]
    data = write(tmp_path / "small.csv", {"a": values})
    context = np.array([np.nan] * 36 + values, dtype=np.float32)
    wanted = Forecaster.open(BUNDLE).forecast(context, 3).quantiles
    asked = ("--target", "flow", "--prediction-length", 3)
    rows = json.loads(invoke(data, *asked, "--json").stdout)["forecasts"]
    got = np.array([[row[level] for level in LEVELS] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(got, wanted)
    assert invoke(data, *asked, "--out", tmp_path / "f.parquet").exit_code == 0
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert set(table[LEVELS].dtypes) == {np.dtype(np.float32)}
    np.testing.assert_array_equal(table[LEVELS].to_numpy(), wanted)
    assert invoke(data, *asked, "--out", tmp_path / "f.csv").exit_code == 0
    for text in ((tmp_path / "f.csv").read_text(), invoke(data, *asked).stdout):
        cells = [line.split(",")[4:13] for line in text.splitlines()[1:]]
        np.testing.assert_allclose(np.array(cells, dtype=float), wanted, rtol=5e-7)


def test_the_kept_case_of_small_values(cases: Path) -> None:
    result = invoke(cases / "data" / "d06_small.csv", "--target", "flow", "--prediction-length", 1)
    assert all(5e-05 < float(cell) < 9e-05 for cell in result.stdout.splitlines()[1].split(",")[4:13])


def test_a_longer_context_than_the_base_reads_and_another_ending_are_refused_first(mixed: Path, tmp_path: Path) -> None:
    assert "reads at most 64 steps" in str(invoke(mixed, "--target", "flow", "--context-length", 65).exception)
    result = invoke(mixed, "--target", "flow", "--out", tmp_path / "f.xlsx")
    assert isinstance(result.exception, ConfigError)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    line = f"set -o pipefail; {line}".replace("FORECAST", f"{sys.executable} -m edge_tsfm.cli forecast {BUNDLE}")
    return subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=False)


def test_a_reader_that_went_away_and_a_full_disk_behind_a_pipe(mixed: Path) -> None:
    gone = shell(f"FORECAST {mixed} --target flow | true")
    assert "Traceback" not in gone.stderr
    assert "BrokenPipe" not in gone.stderr
    full = shell(f"FORECAST {mixed} --target flow > /dev/full")
    assert full.returncode == 1
    assert full.stderr.splitlines()[-2:] == [
        "edge-tsfm: error: No space left on device",
        "hint: free some space, or write elsewhere",
    ]
