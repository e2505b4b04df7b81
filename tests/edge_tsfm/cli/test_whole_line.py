"""Train, export, verify, inspect and forecast, each through its command, on the dummy base: the line a user walks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from device_runtime.forecast.forecaster import Forecaster
from edge_tsfm.runs.run import load_run

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


def run(*arguments: object, status: int = 0) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "edge_tsfm.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    run("simulate", "--out", folder / "ward.csv", "--patients", 150, "--site", "B", "--signals", "MAP")
    common = ["--target", "MAP", "--base", DUMMY, "--context-length", 32, "--steps", 60, "--batch-size", 64]
    for method, extra in (("fourierft", ["--n-frequency", 16, "--learning-rate", 1.0]), ("bitfit", [])):
        run("train", folder / "ward.csv", "--method", method, "--out", folder / method, "--force", *common, *extra)
    run("export", "base", "--base", DUMMY, "--out", folder / "bundle")
    for method in ("fourierft", "bitfit"):
        run("export", "adapter", folder / method, "--bundle", folder / "bundle", "--out", folder / f"{method}.etsa")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fourierft", "bitfit"])
def test_a_trained_adapter_reaches_the_device(house: Path, method: str) -> None:
    blob = house / f"{method}.etsa"
    forecast = Forecaster.open(house / "bundle", blob).forecast([80.0 + i % 7 for i in range(30)], 6)
    assert forecast.quantiles.shape == (6, 9)
    report = json.loads(run("verify", blob, "--bundle", house / "bundle", "--json"))
    assert report["adapter"] == forecast.adapter
    assert report["largest_change"]
    facts = json.loads(run("inspect", blob, "--json"))
    record_bytes = sum(int(line.rsplit(" ", 2)[1]) for line in facts["records"])
    assert facts["header_bytes"] + facts["table_bytes"] + record_bytes == blob.stat().st_size
    trained = load_run(house / method)
    assert facts["metadata"] == {"method": method, "run": trained.parameters_digest[:16]}
    assert (facts["for"]["signal"], facts["for"]["prediction_length"]) == ("MAP", trained.config.prediction_length)


@pytest.mark.slow
def test_forecast_of_a_table_names_every_item(house: Path) -> None:
    got = json.loads(
        run(
            "forecast",
            house / "bundle",
            house / "ward.csv",
            "--adapter",
            house / "bitfit.etsa",
            "--target",
            "MAP",
            "--json",
        )
    )
    assert len({row["item_id"] for row in got["forecasts"]}) > 140
    assert len(got["base"]) == 64


@pytest.mark.slow
def test_runs_and_bundles_say_what_they_hold(house: Path) -> None:
    run_facts = json.loads(run("inspect", house / "bitfit", "--json"))
    assert run_facts["method"] == "bitfit"
    bundle_facts = json.loads(run("inspect", house / "bundle", "--json"))
    assert bundle_facts["family"] == "chronos-bolt"
    text = run("inspect", house / "ward.csv", "--target", "MAP")
    assert "MAP" in text


@pytest.mark.slow
def test_an_adapter_is_not_exported_for_another_base_and_errors_have_hints(house: Path, tmp_path: Path) -> None:
    error = run("export", "adapter", house / "bitfit", "--bundle", house, "--out", tmp_path / "x.etsa", status=1)
    assert "not a base bundle" in error
    assert "hint:" in error
    assert not (tmp_path / "x.etsa").exists()
    assert "written once" in run("export", "base", "--base", DUMMY, "--out", house / "bundle", status=1)
    assert "MAP" in run("inspect", house / "ward.csv")  # its columns


def test_an_unknown_base_lists_what_needs_no_network(tmp_path: Path) -> None:
    error = run("export", "base", "--base", tmp_path / "nowhere", "--out", tmp_path / "b", status=1)
    assert "cannot load base" in error
    assert "edge-bolt-micro" in error
