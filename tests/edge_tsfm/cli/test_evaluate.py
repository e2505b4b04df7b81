import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_runtime.errors import SignalMismatchError
from edge_tsfm.cli.evaluate import command
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.errors import DataError
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


def ward(path: Path, *, seed: int, patients: int = 60, site: str = "A") -> Path:
    frame = simulate_ward(
        patients=patients,
        hours=48,
        site=site,
        seed=seed,
        interval="1h",
        signals=["HR", "MAP"],
        on_patient=lambda: None,
    )
    path.write_bytes(encode_table(frame, path))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of two steps on a small ward, and its data."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = ward(folder / "ward.parquet", seed=0)
    config = TrainConfig(
        data=str(data), target="HR", base=str(DUMMY), method="bitfit", context_length=24, prediction_length=4,
        steps=2, batch_size=8, evaluate_every=1, warmup_steps=1,
    )  # fmt: skip
    train(config, folder / "run", force=True)
    return folder / "run", data


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_it_scores_test_patients_of_the_runs_own_data_unless_told_otherwise(trained: tuple[Path, Path]) -> None:
    run, data = trained
    result = invoke(run, "--json", "--resamples", 100)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["data"]["split"] == "test"
    assert record["data"]["trained_items"] == 0
    assert 0 < record["patients"] < 20
    assert record["few_patients"] is True
    assert set(record["models"]) >= {"adapter", "base", "persistence", "window_mean", "exponential_smoothing"}
    assert record["notes"] == []
    lower = record["adapter_minus_base"]["wql"]["high"] < 0
    assert (record["verdict"]["evaluation"]["wql"] == "lower") == lower
    assert record["verdict"]["decision"] == "accepted by hand"  # the run of two steps was forced
    assert "beats_base" not in record  # a refused run's figure alone would contradict its gate
    again = json.loads(invoke(run, data, "--json", "--resamples", 100).stdout)
    assert again == record


def test_it_writes_the_table_csv_page_and_pictures(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = trained
    result = invoke(
        run,
        data,
        "--resamples",
        100,
        "--csv",
        tmp_path / "a.csv",
        "--html",
        tmp_path / "a.html",
        "--plots",
        tmp_path / "p",
    )
    assert result.exit_code == 0, result.output
    assert "its frozen base" in result.stdout
    assert "ACCEPTED BY HAND (--force) although the gate refused this run" in result.stdout
    assert "ACCEPTED BY HAND" in (tmp_path / "a.html").read_text()
    assert "exp. smoothing" in result.stdout
    assert (tmp_path / "a.csv").read_text().startswith("subgroup,label,patients")
    assert "<h1>HR: bitfit on chronos-bolt, test patients of ward.parquet</h1>" in (tmp_path / "a.html").read_text()
    assert sorted(one.name for one in (tmp_path / "p").iterdir()) == [
        f"{name}.png" for name in ("calibration", "figures", "forecasts", "patients", "steps")
    ]


@pytest.mark.parametrize("split", ["train", "all"])
def test_patients_it_was_trained_on_are_refused_unless_asked_for(trained: tuple[Path, Path], split: str) -> None:
    run, data = trained
    refused = invoke(run, data, "--split", split)
    assert isinstance(refused.exception, DataError)
    assert "patients are ones the run was trained on" in str(refused.exception)
    asked = invoke(run, data, "--split", split, "--allow-trained-patients", "--resamples", 100)
    assert asked.exit_code == 0, asked.output
    assert "NOT figures for new patients" in asked.stdout


def test_another_ward_may_be_scored_whole(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = trained
    other = ward(tmp_path / "other.parquet", seed=7, patients=12, site="B")
    record = json.loads(invoke(run, other, "--split", "all", "--json", "--resamples", 100).stdout)
    assert record["patients"] == 12
    assert record["notes"] == []


def test_another_extract_of_the_same_patients_is_recognised(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = trained
    import pandas as pd

    frame = pd.read_parquet(data)
    extract = tmp_path / "extract.csv"
    frame[frame.groupby("item_id").cumcount() > 3].to_csv(extract, index=False)
    assert isinstance(invoke(run, extract, "--split", "all").exception, DataError)


def test_another_signal_is_scored_with_a_note(trained: tuple[Path, Path]) -> None:
    run, data = trained
    refused = invoke(run, data, "--target", "MAP", "--resamples", 100)
    assert isinstance(refused.exception, SignalMismatchError)
    accepted = ["--accept-difference", "signal", "--accept-difference", "unit"]
    result = invoke(run, data, "--target", "MAP", "--resamples", 100, *accepted)
    assert "note: the run was trained on HR, this is MAP" in result.stdout
    assert "note: the run was trained for another signal; accepted by hand" in result.stdout


def test_validation_patients_come_with_a_note(trained: tuple[Path, Path]) -> None:
    run, data = trained
    assert "whether the gate accepted" in invoke(run, data, "--split", "validation", "--resamples", 100).stdout


def test_data_without_test_patients_are_an_error_with_a_hint(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = trained
    other = ward(tmp_path / "one.parquet", seed=9, patients=1)
    result = invoke(run, other)
    assert isinstance(result.exception, DataError)
    assert "no test patient has a window of 24 → 4 steps" in str(result.exception)
    assert "--split all" in str(result.exception.hint)
    short = tmp_path / "short.csv"
    short.write_text("item_id,timestamp,HR\n" + "".join(f"p,2026-03-01 {hour:02d}:00,80\n" for hour in range(9)))
    whole = invoke(run, short, "--split", "all")
    assert "no all patient" not in str(whole.exception)
    assert "no patient has a window of 24 → 4 steps" in str(whole.exception)
    assert "--split" not in str(whole.exception.hint)  # nothing more to ask for


def test_data_that_moved_are_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = trained
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    record = json.loads((moved / "run.json").read_text())
    record["config"]["data"] = str(tmp_path / "gone.csv")
    (moved / "run.json").write_text(json.dumps(record))
    result = invoke(moved)
    assert isinstance(result.exception, DataError)
    assert "edge-tsfm evaluate RUN DATA" in str(result.exception.hint)


def test_calibration_is_scored_beside_the_adapter(tmp_path: Path) -> None:
    data = ward(tmp_path / "ward.parquet", seed=4, patients=320)
    config = TrainConfig(
        data=str(data), target="HR", base=str(DUMMY), method="bitfit", context_length=24, prediction_length=4,
        steps=2, batch_size=8, evaluate_every=1, warmup_steps=1,
    )  # fmt: skip
    train(config, tmp_path / "run", force=True)
    result = invoke(tmp_path / "run", "--calibrate", "--json", "--resamples", 100)
    assert result.exit_code == 0, result.exception
    record = json.loads(result.stdout)
    coverage = {name: record["models"][name]["coverage"]["value"] for name in ("adapter", "calibrated")}
    assert abs(coverage["calibrated"] - 0.8) < abs(coverage["adapter"] - 0.8), "the dummy base is far off"
    assert "calibrated" not in record["adapter_minus_baselines"]
    assert "wql" in record["adapter_minus_calibrated"]
    text = invoke(tmp_path / "run", "--calibrate", "--resamples", 100).stdout
    assert "the 80 % band covers, with 95% intervals: frozen base" in text
    assert "simple baseline, calibrated" not in text


def test_calibration_wants_enough_validation_patients(trained: tuple[Path, Path]) -> None:
    result = invoke(trained[0], "--calibrate")
    assert isinstance(result.exception, DataError)
    assert "calibration: " in str(result.exception)


def test_it_scores_drawn_windows_on_demand_and_says_so(trained: tuple[Path, Path]) -> None:
    run, _ = trained
    whole = json.loads(invoke(run, "--json", "--resamples", 100).stdout)
    some = json.loads(invoke(run, "--json", "--resamples", 100, "--windows", 20, "--seed", 3).stdout)
    assert some["windows"] == 20
    assert some["notes"] == [f"20 of {whole['windows']} windows, drawn by seed 3"]
    assert json.loads(invoke(run, "--json", "--resamples", 100, "--windows", whole["windows"]).stdout) == whole
