import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError, ModelError
from edge_tsfm.evaluation.metrics import (
    METRICS,
    at_level,
    calibration,
    dtw_distance,
    in_context_scale,
    score_windows,
)
from tests.support.forecasts import LEVELS, around, mean_forecast, ward, windows_of


def figures(quantiles: NDArray[np.floating], windows: Windows) -> dict[str, float]:
    sums = score_windows(quantiles, windows, LEVELS).sum(0)
    return {name: float(sums[m, 0] / sums[m, 1]) for m, name in enumerate(METRICS)}


def naive_dtw(a: list[float], b: list[float]) -> float:
    @cache
    def cost(i: int, j: int) -> float:
        here = abs(a[i] - b[j])
        if i == j == 0:
            return here
        before = [cost(p, q) for p, q in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p >= 0 and q >= 0]
        return here + min(before)

    return cost(len(a) - 1, len(b) - 1) / len(a)


def naive_figures(quantiles: NDArray[np.floating], windows: Windows) -> dict[str, float]:
    """The definitions written out one value at a time."""
    errors: list[float] = []
    shares: list[float] = []
    dtw: list[float] = []
    mase: list[float] = []
    inside: list[bool] = []
    widths: list[float] = []
    pinball = dict.fromkeys(LEVELS, 0.0)
    size = 0.0
    for n in range(len(windows)):
        places = [h for h in range(windows.target.shape[1]) if not math.isnan(windows.target[n, h])]
        if not places:
            continue
        y = [float(windows.target[n, h]) for h in places]
        q = [[float(x) for x in quantiles[n, h]] for h in places]
        own = [abs(row[4] - value) for row, value in zip(q, y, strict=True)]
        errors += own
        shares += [e / abs(value) for e, value in zip(own, y, strict=True) if value != 0]
        dtw.append(naive_dtw([row[4] for row in q], y))
        context = [float(x) for x in windows.context[n]]
        steps = [abs(b - a) for a, b in pairwise(context) if not math.isnan(b - a)]
        if steps and sum(steps) > 0:
            mase.append((sum(own) / len(own)) / (sum(steps) / len(steps)))
        inside += [row[0] <= value <= row[8] for row, value in zip(q, y, strict=True)]
        widths += [row[8] - row[0] for row in q]
        size += sum(abs(value) for value in y)
        for row, value in zip(q, y, strict=True):
            for k, level in enumerate(LEVELS):
                gap = value - row[k]
                pinball[level] += level * gap if gap >= 0 else (level - 1) * gap
    return {
        "mse": float(np.mean(np.square(errors))),
        "mae": float(np.mean(errors)),
        "mape": float(np.mean(shares)),
        "dtw": float(np.mean(dtw)),
        "wql": float(np.mean([2 * total / size for total in pinball.values()])),
        "mase": float(np.mean(mase)),
        "coverage": float(np.mean(inside)),
        "width": float(np.mean(widths)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_is_its_definition_written_out(seed: int) -> None:
    windows = ward(seed, patients=6, each=3)
    rng = np.random.default_rng(seed)
    windows.target[rng.random(windows.target.shape) < 0.4] = np.nan
    windows.target[0] = np.nan  # a window without a target
    windows.target[1, 0] = 0.0  # MAPE cannot rate it
    windows.context[2] = 70.0  # MASE cannot scale it
    forecast = np.sort(mean_forecast(windows) + rng.normal(0, 3, (*windows.target.shape, 9)), axis=-1)
    assert figures(forecast, windows) == pytest.approx(naive_figures(forecast, windows), rel=1e-9)


def test_known_values() -> None:
    windows = windows_of(np.array([[10.0, 12.0, np.nan, 14.0, 13.0]]), np.array([[10.0, 20.0, np.nan]]))
    forecast = np.repeat(np.array([[[12.0], [16.0], [99.0]]]), 9, axis=2)
    got = figures(forecast, windows)
    assert got["mse"] == pytest.approx((4 + 16) / 2)
    assert got["mae"] == pytest.approx(3)
    assert got["mape"] == pytest.approx((0.2 + 0.2) / 2)
    assert got["wql"] == pytest.approx((2 + 4) / 30)  # a point forecast: the pinball losses of q and 1 - q add up
    assert got["mase"] == pytest.approx(3 / 1.5)  # |12 - 10| and |13 - 14|; the pairs with a missing value are none
    assert got["coverage"] == 0
    assert got["width"] == 0


def test_a_missing_target_is_never_scored() -> None:
    windows = ward(3)
    missing = np.isnan(windows.target)
    assert missing.any()
    forecast = mean_forecast(windows)
    other = np.where(missing[..., None], 1e6 + np.arange(9), forecast)
    np.testing.assert_array_equal(score_windows(forecast, windows, LEVELS), score_windows(other, windows, LEVELS))
    np.testing.assert_array_equal(calibration(forecast, windows, LEVELS), calibration(other, windows, LEVELS))
    assert score_windows(forecast, windows, LEVELS)[:, 0, 1].sum() == (~missing).sum()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_dtw_is_the_recursion_and_at_most_the_mae(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 4, length))
    b[rng.random(b.shape) < 0.3] = np.nan
    got = dtw_distance(a, b)
    for n in range(4):
        seen = ~np.isnan(b[n])
        if not seen.any():
            assert got[n] == 0
            continue
        assert got[n] == pytest.approx(naive_dtw(a[n, seen].tolist(), b[n, seen].tolist()))
        assert got[n] <= np.abs(a[n, seen] - b[n, seen]).mean() + 1e-12


def test_dtw_forgives_a_delay_and_nothing_else() -> None:
    step = np.array([[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
    late = np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    assert dtw_distance(step, late)[0] == 0
    assert dtw_distance(step + 2, step)[0] == pytest.approx((2 + 2 + 4 * 1 + 0) / 6, abs=1)
    assert dtw_distance(step + 2, step)[0] > 1


@settings(deadline=None, max_examples=40)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_a_change_of_unit_scales_errors_and_leaves_ratios(factor: float, seed: int) -> None:
    windows = ward(seed, patients=4, each=2)
    scaled = windows_of(windows.context * factor, windows.target * factor)
    one, other = figures(mean_forecast(windows), windows), figures(mean_forecast(windows) * factor, scaled)
    for name in ("mape", "wql", "mase", "coverage"):
        assert other[name] == pytest.approx(one[name], rel=1e-4)
    for name in ("mae", "dtw", "width"):
        assert other[name] == pytest.approx(factor * one[name], rel=1e-4)
    assert other["mse"] == pytest.approx(factor**2 * one["mse"], rel=1e-4)


def test_wql_is_least_for_the_true_spread() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(80, 5, (4000, 6))
    windows = windows_of(np.full((4000, 12), 80.0) + rng.normal(size=(4000, 12)), target)
    wql = {spread: figures(around(np.full((4000, 6), 80.0), spread), windows)["wql"] for spread in (2.5, 5.0, 10.0)}
    assert wql[5.0] < min(wql[2.5], wql[10.0])
    honest = around(np.full((4000, 6), 80.0), 5.0)
    assert figures(honest, windows)["coverage"] == pytest.approx(0.8, abs=0.01)
    np.testing.assert_allclose(calibration(honest, windows, LEVELS), LEVELS, atol=0.015)


def test_a_level_between_two_is_read_between_them() -> None:
    levels = np.array([0.05, 0.25, 0.75, 0.95])
    assert at_level(np.array([1.0, 2.0, 4.0, 9.0]), levels, 0.5) == pytest.approx(3)
    assert at_level(np.array([1.0, 2.0, 4.0, 9.0]), levels, 0.25) == 2
    assert at_level(np.arange(9.0), np.float32(LEVELS).astype(np.float64), 0.9) == 8
    with pytest.raises(ConfigError, match=r"reach from 0.05 to 0.95; scoring reads level 0.01"):
        at_level(np.zeros(4), levels, 0.01)


def test_the_scale_of_a_context_without_neighbours_is_zero() -> None:
    context = np.array([[1.0, np.nan, 5.0, np.nan], [3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 4.0, np.nan]])
    np.testing.assert_allclose(in_context_scale(context), [0, 0, 1.5])


def test_what_cannot_be_scored_is_refused(windows: Windows) -> None:
    good = mean_forecast(windows)
    with pytest.raises(ModelError, match=r"shape \(200, 6, 8\); wanted \(200, 6, 9\)"):
        score_windows(good[..., :8], windows, LEVELS)
    broken = good.copy()
    broken[7, 0, 0] = np.nan
    with pytest.raises(ModelError, match="1 of 200 forecasts are not finite"):
        score_windows(broken, windows, LEVELS)
    with pytest.raises(ConfigError, match="must increase"):
        score_windows(good, windows, LEVELS[::-1])
    with pytest.raises(ConfigError, match="one quantile level") as single:
        score_windows(good[..., 4:5], windows, LEVELS[4:5])
    assert "0.1, 0.5 and 0.9" in str(single.value.hint)
    with pytest.raises(ConfigError, match=r"scoring reads level 0.1"):
        score_windows(good[..., 2:7], windows, LEVELS[2:7])


def test_a_target_at_either_end_of_the_interval_is_covered() -> None:
    """Feeds repeat values to the digit, and so do forecasts of a signal that stands still."""
    windows = windows_of(np.array([[79.0, 82.0]]), np.array([[80.0, 81.0, 90.0, 79.0, 91.0]]))
    level = np.linspace(80.0, 90.0, len(LEVELS))
    quantiles = np.broadcast_to(level, (1, 5, len(LEVELS)))
    assert figures(quantiles, windows)["coverage"] == pytest.approx(3 / 5)
