"""One small study from file to table: what it may see, what it keeps, and how it goes on after a stop."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from edge_tsfm.cli.study import command
from edge_tsfm.data import split_of
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.evaluation import evaluate_forecasts
from edge_tsfm.research.study import latency, pool, work
from edge_tsfm.research.study.config import MethodChoice, StudyConfig, load_study
from edge_tsfm.research.study.scores import SCORES_FILE, read_scores
from edge_tsfm.research.study.study import run_study
from edge_tsfm.runs.run import forecast, load_run
from tests.edge_tsfm.research.study.conftest import BY_TIME, DUMMY


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)  # as the workers', for the same bits


def results(out: Path) -> Any:
    return json.loads((out / "results" / "study.json").read_text())


def row(out: Path, label: str) -> Any:
    return next(one for one in results(out)["groups"][0]["rows"] if one["label"] == label)


def test_a_cell_is_a_run_and_its_figures_are_those_of_evaluate(finished: Path) -> None:
    runs = [load_run(finished / "cells" / f"HR-chronos-bolt-bitfit-seed{seed}") for seed in (0, 1)]
    windows = runs[0].windows("test")
    assert {split_of(name) for name in windows.item_id} == {"test"}
    forecasts = [forecast(run.tuned_model(), run.base["family"], windows.context, 4) for run in runs]
    base = forecast(runs[0].base_model.model, runs[0].base["family"], windows.context, 4)
    reports = [
        evaluate_forecasts({"adapter": one, "base": base}, windows, runs[0].quantile_levels()).overall
        for one in forecasts
    ]
    found = row(finished, "bitfit")
    assert found["parameters"] == runs[0].record["parameters"]
    assert found["seeds"] == [0, 1]
    for metric in ("mse", "mape", "dtw", "wql"):
        by_seed = [report.models["adapter"][metric].value for report in reports]
        assert found["by_seed"][metric] == pytest.approx(by_seed)
        assert found["figures"][metric]["value"] == pytest.approx(np.mean(by_seed))
        assert row(finished, "base")["figures"][metric]["value"] == pytest.approx(
            reports[0].models["base"][metric].value
        )
        simple = row(finished, "exponential_smoothing")["figures"][metric]
        expected = reports[0].models["exponential_smoothing"][metric]
        assert (simple["value"], simple["low"], simple["high"]) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_the_search_never_scores_test_patients_and_its_choice_is_used(finished: Path) -> None:
    assert not list(finished.glob(f"search/*/{SCORES_FILE}"))
    for one in results(finished)["learning_rates"]:
        best = min(one["tried"].values())
        assert one["tried"][f"{one['factor']:g}"] == best
        run = load_run(finished / "cells" / f"HR-chronos-bolt-{one['method']}-seed1")
        assert run.config.learning_rate_factor == one["factor"]
        trials = [load_run(path) for path in sorted(finished.glob(f"search/HR-chronos-bolt-{one['method']}-x*"))]
        assert {run.record["training"]["best"] for run in trials} == set(one["tried"].values())


def test_a_finished_study_started_again_does_nothing(
    study: StudyConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results(finished)
    monkeypatch.setattr(pool, "perform", lambda *_: pytest.fail("nothing is left to do"))
    run_study(study, finished)
    assert results(finished) == before


def test_baselines_under_the_name_of_the_release_before_are_not_scored_again(
    study: StudyConfig, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "baselines").rename(out / "yardsticks")
    assert run_study(study, out, only_tabulate=True).missing == 0
    assert not (out / "yardsticks").exists()


def test_a_stopped_study_goes_on_with_what_is_left(study: StudyConfig, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    gone = out / "cells" / "HR-chronos-bolt-bitfit-seed1"
    shutil.rmtree(gone)
    partial = run_study(study, out, only_tabulate=True)
    assert partial.missing == 1
    assert row(out, "bitfit")["seeds"] == [0]
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/run.json")}
    assert run_study(study, out).missing == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert row(out, "bitfit")["by_seed"] == row(finished, "bitfit")["by_seed"]  # the same bits


def test_cells_of_another_study_are_refused(study: StudyConfig, finished: Path) -> None:
    other = replace(study, train={**study.train, "steps": 30})
    with pytest.raises(ConfigError, match="steps = 20, the study wants 30"):
        run_study(other, finished, only_tabulate=True)


def test_a_cell_that_fails_leaves_the_others_alone(
    study: StudyConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "cells" / "HR-chronos-bolt-full-seed0")

    def fail(*_: object) -> None:
        raise TrainError("the training loss is nan at step 7")

    monkeypatch.setitem(work.TRAINERS, "adapter", fail)
    result = run_study(study, out)
    assert list(result.failed) == ["cells/HR-chronos-bolt-full-seed0"]
    assert result.missing == 1
    assert "loss is nan" in (out / "results" / "study.html").read_text()


def test_scores_hold_every_test_patient_once(finished: Path) -> None:
    paths = sorted(finished.glob(f"*/*/{SCORES_FILE}"))
    every = [read_scores(path) for path in paths]
    assert len(every) == 6  # two methods, two seeds; the base and the simple ones
    for one in every:
        assert len(set(one.item_id)) == len(one.item_id)
        assert np.array_equal(one.item_id, every[0].item_id)
        assert all(array.shape[0] == len(one.item_id) for array in one.sums.values())


def test_the_command_lists_tabulates_and_prints(finished: Path, study: StudyConfig, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('targets = ["HR"]\nmethods = ["bitfit", "norms"]\nseeds = [0]\n')
    listed = CliRunner().invoke(command, [str(file), study.data, "--out", str(tmp_path / "x"), "--dry-run", "--json"])
    entries = json.loads(listed.output)
    assert [entry["folder"] for entry in entries] == [
        "baselines/HR-edge-bolt-micro",
        "baselines/HR-simple",
        "cells/HR-edge-bolt-micro-bitfit-seed0",
        "cells/HR-edge-bolt-micro-norms-seed0",
    ]
    assert not (tmp_path / "x").exists()
    for name in ("table.md", "table.csv", "study.html", "pareto.png"):
        assert (finished / "results" / name).stat().st_size > 500


def test_blobs_and_device_speed_are_in_the_table(
    study: StudyConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    asked = replace(study, bundle=True, latency=True)
    assert run_study(asked, out, only_tabulate=True).groups[0].latency is None, "a table alone times nothing"
    monkeypatch.setattr(latency, "RUNS", 1)
    threads = torch.get_num_threads()
    result = run_study(asked, out)
    assert torch.get_num_threads() == threads
    timed = results(out)["groups"][0]["latency"]
    assert (timed["context_length"], timed["prediction_length"]) == (24, 4)
    assert timed["ratio"] == pytest.approx(timed["torch_ms"] / timed["runtime_ms"])
    table = (out / "results" / "table.md").read_text()
    assert "speed, × torch" in table
    assert f"({timed['ratio']:.1f}×)" in table
    monkeypatch.setattr(latency, "forecast_timing", lambda *_: pytest.fail("timed twice"))
    assert run_study(asked, out, only_tabulate=True).groups[0].latency is not None
    assert not [note for note in result.notes if "blob" in note or "bundle" in note]
    blobs = sorted(path.relative_to(out).as_posix() for path in out.glob("cells/*/*.etsa"))
    assert blobs == ["cells/HR-chronos-bolt-bitfit-seed0/adapter.etsa"]
    assert row(out, "bitfit")["bytes"] == (out / blobs[0]).stat().st_size
    assert row(out, "full")["bytes"] is None


def test_added_biases_get_a_bundle_of_their_own(study: StudyConfig, tmp_path: Path) -> None:
    added = MethodChoice(label="added", method="bitfit", options={"biases": "added", "target_modules": ["v"]})
    result = run_study(replace(study, seeds=(0,), methods=(added,), search=None, bundle=True), tmp_path)
    assert not result.notes
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["chronos-bolt-added-biases"]
    assert (
        row(tmp_path, "added")["bytes"] == (tmp_path / "cells/HR-chronos-bolt-added-seed0/adapter.etsa").stat().st_size
    )


@pytest.mark.slow
@pytest.mark.parametrize("where", ["processes", "ray"])
def test_workers_make_the_same_table(where: str, study: StudyConfig, finished: Path, tmp_path: Path) -> None:
    ray = None
    if where == "ray":
        pytest.importorskip("ray", reason="pip install 'edge-tsfm[ray]'")
        ray = "local"
    small = replace(study, seeds=(0,), methods=study.methods[:1])
    seen: list[str] = []
    result = run_study(small, tmp_path / "out", jobs=2, ray=ray, report=lambda cell: seen.append(cell.folder))
    assert len(seen) == len(set(seen)) == 2 + 3
    assert not result.failed
    assert row(tmp_path / "out", "bitfit")["by_seed"]["mse"][0] == row(finished, "bitfit")["by_seed"]["mse"][0]


def test_a_table_made_before_the_search_is_finished_says_so(finished: Path, study: StudyConfig, tmp_path: Path) -> None:
    assert not any("search" in note for note in results(finished)["notes"])
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    kept = results(finished)["learning_rates"][0]["factor"]
    other = 3 if kept == 1 else 1
    shutil.rmtree(out / "search" / f"HR-chronos-bolt-{results(finished)['learning_rates'][0]['method']}-x{other}")
    run_study(study, out, only_tabulate=True)
    assert any("1 runs of the search are not finished" in note for note in results(out)["notes"])


def test_one_long_series_is_studied_by_time_over_blocks(tmp_path: Path) -> None:
    hour = np.arange(1200)
    frame = pd.DataFrame(
        {"date": pd.date_range("2020-01-01", periods=1200, freq="1h"), "load": 50 + 9 * np.sin(hour / 4) + hour % 7}
    )
    frame.to_csv(tmp_path / "machine.csv", index=False)
    (tmp_path / "study.toml").write_text(BY_TIME.format(base=DUMMY))
    result = run_study(load_study(tmp_path / "study.toml", str(tmp_path / "machine.csv")), tmp_path / "out")
    assert not result.failed
    (group,) = result.groups
    run = load_run(tmp_path / "out" / "cells" / "load-chronos-bolt-bitfit-seed0")
    assert group.unit == "block"
    assert group.patients == len(np.unique(run.windows("test").drawn))
    assert "seasonal_naive" in [one.label for one in group.rows]
    assert f"of {group.patients} test blocks" in (tmp_path / "out" / "results" / "table.md").read_text()
