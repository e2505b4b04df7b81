import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation import Report, evaluate, evaluate_forecasts
from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.report.text import conclusion, report_csv, report_text
from tests.support.forecasts import LEVELS, around, mean_forecast, ward, windows_of

FORECASTERS = ["adapter", "base", "persistence", "window_mean", "linear_trend", "exponential_smoothing"]


def off_by(off: float) -> object:
    def predict(context: NDArray[np.float32], prediction_length: int) -> NDArray[np.float64]:
        return around(np.repeat(np.nanmean(context, axis=1)[:, None] + off, prediction_length, 1))

    return predict


def report_of(windows: Windows, **options: object) -> Report:
    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    return evaluate_forecasts(forecasts, windows, LEVELS, **{"resamples": 200, **options})  # type: ignore[arg-type]


def test_the_record_has_the_documented_keys_and_is_plain_json(windows: Windows) -> None:
    record = evaluate(off_by(0), off_by(4), windows, LEVELS, resamples=200).to_dict()  # type: ignore[arg-type]
    again = json.loads(json.dumps(record, allow_nan=False))
    assert set(again) == {
        "schema", "context_length", "prediction_length", "quantile_levels", "bootstrap", "windows", "patients",
        "few_patients", "scored", "missing", "unrated", "models", "adapter_minus_base", "adapter_minus_baselines",
        "calibration", "wql_by_step", "by_patient", "subgroups",
    }  # fmt: skip
    assert (again["windows"], again["patients"]) == (200, 40)
    assert again["scored"] + again["missing"] == windows.target.size
    assert again["missing"] == int(np.isnan(windows.target).sum()) > 0
    assert list(again["models"]) == list(again["calibration"]) == FORECASTERS
    for figures in again["models"].values():
        assert list(figures) == list(METRICS)
        for one in figures.values():
            assert one["low"] <= one["value"] <= one["high"]
    assert list(again["adapter_minus_base"]) == list(METRICS)
    assert set(again["adapter_minus_base"]["wql"]) == {"value", "low", "high", "relative"}
    assert list(again["adapter_minus_baselines"]) == FORECASTERS[2:]


def test_the_adapter_is_compared_with_each_of_the_others(windows: Windows) -> None:
    report = report_of(windows)
    models = report.overall.models
    for name, differences in report.overall.adapter_minus.items():
        for key, one in differences.items():
            gap = models["adapter"][key].value - models[name][key].value
            assert one.absolute.value == pytest.approx(gap)
            assert one.relative.value == pytest.approx(gap / models[name][key].value)
    assert report.beats("base")
    assert report.beats("persistence", "mse")
    with pytest.raises(ValueError, match="lower is not better"):
        report.beats("base", "coverage")


def test_the_order_of_forecasts_and_of_windows_does_not_matter(windows: Windows) -> None:
    forecasts = {"base": mean_forecast(windows, off=4), "adapter": mean_forecast(windows)}
    turned = windows_of(windows.context[::-1], windows.target[::-1], windows.item_id[::-1].tolist())
    backwards = {name: q[::-1] for name, q in forecasts.items()}
    one = report_of(windows).overall.adapter_minus["base"]["wql"].absolute
    for other in (
        evaluate_forecasts(forecasts, windows, LEVELS, resamples=200),
        evaluate_forecasts(backwards, turned, LEVELS, resamples=200),
    ):
        again = other.overall.adapter_minus["base"]["wql"].absolute
        assert (again.value, again.low, again.high) == pytest.approx((one.value, one.low, one.high))


def test_without_an_adapter_there_is_nothing_to_compare(windows: Windows) -> None:
    report = evaluate_forecasts({"other base": mean_forecast(windows)}, windows, LEVELS, resamples=50)
    assert not report.overall.adapter_minus
    assert "other base" in report_text(report)
    assert report.to_dict()["adapter_minus_base"] == {}


def test_subgroups_partition_the_windows_and_show_who_is_harmed() -> None:
    windows = ward(patients=60)
    site = np.where(np.char.rpartition(windows.item_id, "p")[:, 2].astype(int) < 30, "north", "south")
    base = mean_forecast(windows)
    harmed = np.where((site == "south")[:, None, None], base + 6, base)
    helped = np.where((site == "north")[:, None, None], base + 6, base)
    report = evaluate_forecasts(
        {"adapter": harmed, "base": helped}, windows, LEVELS, resamples=200, subgroups={"site": site}
    )
    groups = report.subgroups["site"]
    assert {label: group.windows for label, group in groups.items()} == {"north": 150, "south": 150}
    assert groups["north"].adapter_minus["base"]["wql"].says == "lower"
    assert groups["south"].adapter_minus["base"]["wql"].says == "higher"
    assert "by site: WQL" in report_text(report)
    with pytest.raises(ConfigError, match="3 labels for 300 windows"):
        report_of(windows, subgroups={"site": site[:3]})


def test_a_single_patient_has_figures_but_no_interval() -> None:
    report = report_of(ward(patients=1, each=20))
    record = report.to_dict()
    assert record["few_patients"] is True
    one = report.overall.to_dict()["models"]["adapter"]["mse"]  # type: ignore[index]
    assert one["value"] > 0
    assert (one["low"], one["high"]) == (None, None)
    assert not report.beats("base")
    text = report_text(report)
    assert "(no interval)" in text
    assert "Only 1 patients" in text


def test_what_a_metric_cannot_rate_is_counted(windows: Windows) -> None:
    windows.target[:3, -1] = 0
    windows.context[7] = 90
    report = report_of(windows)
    assert report.overall.unrated == {"mape": 3, "mase": 1}
    assert "left out: 3 targets of 0 from MAPE; 1 windows with a constant context from MASE" in report_text(report)


def test_the_table_says_plainly_who_wins(windows: Windows) -> None:
    better = conclusion(report_of(windows))
    assert better.startswith("No gate has judged this.\nOn 40 patients it beats its frozen base: WQL -")
    same = {"adapter": mean_forecast(windows), "base": mean_forecast(windows)}
    assert "DOES NOT BEAT its frozen base beyond chance" in conclusion(evaluate_forecasts(same, windows, LEVELS))
    worse = {"adapter": mean_forecast(windows, off=4), "base": mean_forecast(windows)}
    assert "is WORSE than its frozen base" in conclusion(evaluate_forecasts(worse, windows, LEVELS))


def test_the_csv_holds_every_figure_in_full(windows: Windows) -> None:
    report = report_of(windows)
    rows = list(csv.DictReader(io.StringIO(report_csv(report))))
    assert len(rows) == 6 * 8 + 5 * 8 * 2
    row = next(one for one in rows if one["forecaster"] == "adapter" and one["metric"] == "mse")
    assert float(row["value"]) == report.overall.models["adapter"]["mse"].value


def test_the_same_seed_gives_the_same_report(windows: Windows) -> None:
    assert report_of(windows, seed=1).to_dict() == report_of(windows, seed=1).to_dict()
    assert report_of(windows, seed=1).to_dict() != report_of(windows, seed=2).to_dict()


def test_impossible_requests_are_refused(windows: Windows) -> None:
    with pytest.raises(ConfigError, match="called 'persistence'"):
        evaluate_forecasts({"persistence": mean_forecast(windows)}, windows, LEVELS)
    with pytest.raises(ConfigError, match="confidence 95"):
        report_of(windows, confidence=95)
    windows.target[:] = np.nan
    with pytest.raises(DataError, match="nothing to score"):
        report_of(windows)


def test_torch_is_not_needed() -> None:
    code = "import sys, edge_tsfm.evaluation, edge_tsfm.report.plots; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
