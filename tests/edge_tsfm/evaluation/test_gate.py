import json

import numpy as np
import pytest

from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError, DataError, ModelError
from edge_tsfm.evaluation import apply_gate
from tests.support.forecasts import LEVELS, mean_forecast, ward


def test_a_better_adapter_is_accepted_with_its_figures(windows: Windows) -> None:
    verdict = apply_gate(mean_forecast(windows), mean_forecast(windows, off=6), windows, LEVELS)
    assert verdict.accepted
    assert verdict.difference == pytest.approx(verdict.adapter / verdict.base - 1)
    assert verdict.interval[0] < verdict.difference < verdict.interval[1] < 0
    assert (verdict.patients, verdict.windows) == (40, 200)
    assert verdict.reason.startswith(f"WQL {-100 * verdict.difference:.1f} % lower than the frozen base's on 40 pat")
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["accepted"] is True


def test_a_worse_adapter_is_refused_and_called_worse(windows: Windows) -> None:
    verdict = apply_gate(mean_forecast(windows, off=6), mean_forecast(windows), windows, LEVELS)
    assert not verdict.accepted
    assert verdict.interval[0] > 0
    assert "higher than the frozen base's" in verdict.reason
    assert "is above zero" in verdict.reason


def test_better_by_chance_is_refused(windows: Windows) -> None:
    base = mean_forecast(windows)
    shifts = (np.random.default_rng(seed).normal(0, 0.5, (len(windows), 1, 1)) for seed in range(100))
    verdicts = (apply_gate(base + shift, base, windows, LEVELS, resamples=300) for shift in shifts)
    verdict = next(one for one in verdicts if one.difference < 0)
    assert verdict.interval[1] >= 0
    assert not verdict.accepted
    assert "does not exclude zero" in verdict.reason


def test_equal_adapters_pass_about_one_time_in_forty() -> None:
    """Two forecasters that differ by noise alone: a 95 % interval lies below zero in some 2.5 % of wards."""
    passed = 0
    for seed in range(200):
        ours = ward(seed, patients=40, each=2, length=12)
        base = mean_forecast(ours)
        noise = np.random.default_rng(seed).normal(0, 2, (2, len(ours), 1, 1))
        passed += apply_gate(base + noise[0], base + noise[1], ours, LEVELS, resamples=300, seed=seed).accepted
    assert passed <= 12


def test_few_patients_are_refused_however_good(windows: Windows) -> None:
    few = ward(patients=8, each=30)
    verdict = apply_gate(mean_forecast(few), mean_forecast(few, off=9), few, LEVELS)
    assert not verdict.accepted
    assert verdict.interval[1] < 0
    assert verdict.reason == "only 8 patients could be scored; an interval to trust needs 20"
    assert apply_gate(mean_forecast(few), mean_forecast(few, off=9), few, LEVELS, min_patients=8).accepted


def test_patients_without_a_target_do_not_count(windows: Windows) -> None:
    windows.target[5 * 15 :] = np.nan  # 15 patients keep theirs
    verdict = apply_gate(mean_forecast(windows), mean_forecast(windows, off=6), windows, LEVELS)
    assert (verdict.patients, verdict.windows) == (15, 75)
    assert not verdict.accepted


def test_an_adapter_that_changes_nothing_is_refused(windows: Windows) -> None:
    base = mean_forecast(windows)
    verdict = apply_gate(base.copy(), base, windows, LEVELS)
    assert not verdict.accepted
    assert verdict.reason == "the adapter forecasts exactly what the frozen base does"
    assert verdict.difference == 0


def test_an_adapter_that_is_not_finite_is_refused(windows: Windows) -> None:
    adapter = mean_forecast(windows)
    adapter[[2, 9], 0] = np.inf
    verdict = apply_gate(adapter, mean_forecast(windows, off=6), windows, LEVELS)
    assert not verdict.accepted
    assert verdict.reason == "2 of 200 forecasts of the adapter are not finite"
    record = verdict.to_dict()
    assert (record["adapter"], record["difference"], record["interval"]) == (None, None, [None, None])
    with pytest.raises(ModelError):
        apply_gate(mean_forecast(windows), adapter, windows, LEVELS)


def test_the_same_seed_gives_the_same_verdict(windows: Windows) -> None:
    one, base = mean_forecast(windows), mean_forecast(windows, off=1)
    assert apply_gate(one, base, windows, LEVELS, seed=3) == apply_gate(one, base, windows, LEVELS, seed=3)
    assert apply_gate(one, base, windows, LEVELS, seed=3) != apply_gate(one, base, windows, LEVELS, seed=4)


def test_another_metric_may_judge_but_not_coverage(windows: Windows) -> None:
    one, base = mean_forecast(windows), mean_forecast(windows, off=6)
    assert apply_gate(one, base, windows, LEVELS, metric="mse").reason.startswith("MSE ")
    with pytest.raises(ConfigError, match="cannot use 'coverage'; choose one of mse"):
        apply_gate(one, base, windows, LEVELS, metric="coverage")


def test_nothing_to_judge_by_is_an_error(windows: Windows) -> None:
    windows.target[:] = np.nan
    with pytest.raises(DataError, match="nothing to judge by"):
        apply_gate(mean_forecast(windows), mean_forecast(windows), windows, LEVELS)
