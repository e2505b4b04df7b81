"""The demo, small: every step of it, not its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from device_runtime.format.blob import decode
from edge_tsfm.runs.run import load_run

pytestmark = pytest.mark.slow


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "edge_tsfm.cli", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_small_demo_makes_all_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = demo("--out", out, "--patients", 80, "--steps", 50, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["reports"]) == set(report["bytes"]) == {"fourierft", "bitfit"}
    assert report["bytes"]["fourierft"] < 5_500
    assert {"base", "adapter", "persistence"} <= set(report["ward_a"]["models"])
    for name in ("forecasts.png", "map-fourierft.etsa", "map-bitfit.etsa", "bundle/bundle.json", "ward-a.csv"):
        assert (out / name).stat().st_size > 0
    for method in ("fourierft", "bitfit"):  # as export adapter writes it: evaluate finds the run of a blob
        blob = decode((out / f"map-{method}.etsa").read_bytes())
        assert blob.metadata == load_run(out / f"run-{method}").blob_metadata


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = demo("--out", tmp_path)
    assert (done.returncode, "is not empty" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
