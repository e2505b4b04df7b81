"""Scores of forecasts, each as a numerator and a denominator per window, so that any set of windows can be added up.

A figure of a test set is the sum of its numerators over the sum of its denominators; a bootstrap over patients
then needs sums only. A missing target value is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from device_runtime.quality import scores
from device_runtime.quality.scores import INTERVAL, in_context_scale
from edge_tsfm.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from edge_tsfm.data.windows import Windows

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a figure is called and which way is better; ``nominal`` is the value of a calibrated forecast."""

    label: str
    better: Literal["lower", "nominal", "neither"]
    nominal: float | None = None
    percent: bool = False


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "mse": Metric(label="MSE", better="lower"),
        "mae": Metric(label="MAE", better="lower"),
        "mape": Metric(label="MAPE", better="lower", percent=True),
        "dtw": Metric(label="DTW", better="lower"),
        "wql": Metric(label="WQL", better="lower"),
        "mase": Metric(label="MASE", better="lower"),
        "coverage": Metric(label="coverage 80 %", better="nominal", nominal=0.8, percent=True),
        "width": Metric(label="width 80 %", better="neither"),
    }
)


def score_windows(quantiles: NDArray[np.floating], windows: Windows, quantile_levels: Sequence[float]) -> FloatArray:
    """Return ``[N, M, 2]``: numerator and denominator of each of `METRICS` for each window.

    ``quantiles`` is ``[N, H, Q]``. MSE, MAE, MAPE, DTW and MASE judge the median.

    * MAPE leaves out targets of zero.
    * DTW: `dtw_distance`, averaged over windows.
    * WQL: twice the pinball loss over the sum of absolute targets, mean over the quantile levels (GluonTS'
      ``mean_weighted_sum_quantile_loss``, Chronos' WQL).
    * MASE (Hyndman and Koehler 2006): a window's MAE over `in_context_scale`, averaged over windows; windows
      whose context never changes have no scale and are left out.
    * coverage and width are of the interval between levels 0.1 and 0.9, both ends included.

    Raises `ModelError` for a forecast of the wrong shape or not finite, `ConfigError` for levels that do not
    reach from 0.1 to 0.9.
    """
    check_forecast(quantiles, windows, quantile_levels)
    levels = np.asarray(quantile_levels, dtype=np.float64)
    target = windows.target.astype(np.float64)
    seen = ~np.isnan(target)  # [N, H]
    y = np.where(seen, target, 0.0)
    q = quantiles.astype(np.float64)
    median = at_level(q, levels, 0.5)
    low, high = (at_level(q, levels, level) for level in INTERVAL)
    error = np.where(seen, median - y, 0.0)
    pinball = np.where(seen, scores.pinball(q, y, levels).mean(-1), 0.0)  # [N, H]

    count = seen.sum(1)  # [N]
    size = np.abs(y)
    rated = seen & (size > 0)
    scale = in_context_scale(windows.context)
    scaled = (scale > 0) & (count > 0)
    mae = np.abs(error).sum(1) / np.maximum(count, 1)
    pairs = {
        "mse": (np.square(error).sum(1), count),
        "mae": (np.abs(error).sum(1), count),
        "mape": (np.where(rated, np.abs(error) / np.where(rated, size, 1), 0).sum(1), rated.sum(1)),
        "dtw": (dtw_distance(median, target), count > 0),
        "wql": (2 * pinball.sum(1), size.sum(1)),
        "mase": (np.where(scaled, mae / np.where(scaled, scale, 1), 0), scaled),
        "coverage": ((seen & (low <= y) & (y <= high)).sum(1), count),
        "width": (np.where(seen, high - low, 0).sum(1), count),
    }
    return np.stack([np.stack(pairs[name], axis=-1).astype(np.float64) for name in METRICS], axis=1)


def dtw_distance(forecast: FloatArray, target: FloatArray) -> FloatArray:
    """Return ``[N]``: dynamic time warping distance of ``forecast`` to ``target``, both ``[N, H]``.

    Absolute differences summed along the cheapest path (steps right, down or both, no window), over the number
    of observed targets: in the signal's unit and never more than the window's MAE, which is the diagonal
    path. Places with a missing target are cut from both sides first, so every forecaster is compared over the
    same places. A window without a target is 0.
    """
    missing = np.isnan(target)
    order = np.argsort(missing, axis=1, kind="stable")  # observed places first, in time
    a = np.take_along_axis(forecast, order, 1)
    b = np.nan_to_num(np.take_along_axis(target, order, 1))
    rows, length = a.shape
    count = length - missing.sum(1)  # [N]
    best = np.full((rows, length + 1), np.inf)  # costs of the cheapest paths that end in the row above
    best[:, 0] = 0
    total = np.zeros(rows)
    for i in range(length):
        now = np.full_like(best, np.inf)
        for j in range(length):
            ahead = np.minimum(np.minimum(best[:, j], best[:, j + 1]), now[:, j])
            now[:, j + 1] = np.abs(a[:, i] - b[:, j]) + ahead
        best = now
        ends = count == i + 1
        total[ends] = best[ends, i + 1]
    distance: FloatArray = total / np.maximum(count, 1)
    return distance


def at_level(quantiles: FloatArray, levels: FloatArray, level: float) -> FloatArray:
    """Read one level off ``[..., Q]``, linearly between its neighbours where it is not among ``levels``."""
    if not scores.reaches(levels, level):
        raise ConfigError(
            f"quantile_levels reach from {levels[0]:g} to {levels[-1]:g}; scoring reads level {level:g}",
            hint="forecast at least the levels 0.1, 0.5 and 0.9",
        )
    return scores.at_level(quantiles, levels, level)


def calibration(quantiles: NDArray[np.floating], windows: Windows, quantile_levels: Sequence[float]) -> FloatArray:
    """Return ``[Q]``: the share of observed targets at or below each quantile; equals its level when calibrated."""
    seen = ~np.isnan(windows.target)
    below = windows.target[..., None] <= quantiles
    share: FloatArray = below[seen].mean(0, dtype=np.float64) if seen.any() else np.full(len(quantile_levels), np.nan)
    return share


def check_forecast(quantiles: NDArray[np.floating], windows: Windows, quantile_levels: Sequence[float]) -> None:
    """Raise `ModelError` unless ``quantiles`` is finite ``[N, H, Q]``, `ConfigError` unless levels increase."""
    levels = np.asarray(quantile_levels, dtype=np.float64)
    if len(levels) < 2:
        raise ConfigError(
            f"one quantile level, {list(quantile_levels)}: a forecast is scored by its median and its 80 % band",
            hint="use a base that forecasts at least the levels 0.1, 0.5 and 0.9",
        )
    if np.any(np.diff(levels) <= 0) or levels[0] <= 0 or levels[-1] >= 1:
        raise ConfigError(f"quantile_levels must increase inside 0 to 1; got {list(quantile_levels)}")
    wanted = (*windows.target.shape, len(levels))
    if quantiles.shape != wanted:
        raise ModelError(f"a forecast of {len(windows)} windows has shape {quantiles.shape}; wanted {wanted}")
    broken = ~np.isfinite(quantiles).all((1, 2))
    if broken.any():
        raise ModelError(f"{int(broken.sum())} of {len(windows)} forecasts are not finite")
