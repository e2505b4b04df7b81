"""WQL by step and patient by patient, against the same sums added up by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.breakdown import SHOWN, compare_patients, step_sums
from edge_tsfm.evaluation.evaluate import evaluate_forecasts
from tests.support.forecasts import LEVELS, mean_forecast, ward, windows_of


def test_steps_add_up_to_the_whole(windows: Windows) -> None:
    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    report = evaluate_forecasts(forecasts, windows, LEVELS, resamples=100)
    for name, quantiles in forecasts.items():
        sums = step_sums(quantiles, windows.target, LEVELS).sum(0)  # [H, 2]
        assert sums[:, 0].sum() / sums[:, 1].sum() == pytest.approx(report.overall.models[name]["wql"].value, rel=1e-12)
        steps = report.wql_by_step[name]
        assert [one.value for one in steps] == pytest.approx((sums[:, 0] / sums[:, 1]).tolist(), rel=1e-12)
        assert all(one.low <= one.value <= one.high for one in steps)
    assert report.wql_by_step.keys() == report.overall.models.keys()


def test_a_step_that_nobody_measured_is_undefined() -> None:
    windows = ward()
    windows.target[:, 2] = np.nan
    report = evaluate_forecasts({"adapter": mean_forecast(windows)}, windows, LEVELS, resamples=100)
    assert np.isnan(report.wql_by_step["adapter"][2].value)
    assert report.by_patient is None  # no base to compare with
    json.dumps(report.to_dict(), allow_nan=False)


def test_whom_it_harms_is_named_the_worst_first(windows: Windows) -> None:
    """The adapter is the base, but for two patients: one at twice the base's error, one at half."""
    base = mean_forecast(windows, off=4)
    target = np.nan_to_num(windows.target.astype(np.float64), nan=80.0)[..., None]
    adapter = base.copy()
    for name, factor in (("p003", 2.0), ("p007", 0.5)):
        its = windows.item_id == name
        adapter[its] = target[its] + factor * (base[its] - target[its])
    scores = compare_patients(adapter, base, windows, LEVELS)
    assert scores.worst[0].item_id == "p003"
    assert scores.worst[0].relative == pytest.approx(1.0)
    assert scores.worst[0].adapter == pytest.approx(2 * scores.worst[0].base)
    assert scores.worst[0].windows == 5
    assert scores.relative[-1] == pytest.approx(-0.5)
    assert len(scores.relative) == 40
    assert len(scores.worst) == SHOWN
    assert scores.worse == {0.02: 1 / 40, 0.1: 1 / 40}


def test_patients_without_a_relative_difference_are_left_out() -> None:
    windows = windows_of(np.full((3, 12), 5.0), np.array([[0.0] * 3, [5.0] * 3, [np.nan] * 3]))
    base = mean_forecast(windows)
    assert [one.item_id for one in compare_patients(base, base, windows, LEVELS).worst] == ["p1"]
