"""Simple baselines that use nothing but the context; an adapter that does not beat them is not worth shipping.

Each returns a point and the standard deviation of its forecast error, both ``[N, H]``. Standard deviations come from
the method's own errors inside the context, by the textbook's formulas (Hyndman and Athanasopoulos, Forecasting:
Principles and Practice, 3rd ed., §5.5, §7.6 and §8.7) except for persistence, and the quantiles are Gaussian. For a
context with a single value the standard deviation is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
Baseline = Callable[[FloatArray, int], tuple[FloatArray, FloatArray]]

ALPHAS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])


def persistence(context: FloatArray, prediction_length: int) -> tuple[FloatArray, FloatArray]:
    """Carry the last observed value forward; the deviation is what that would have missed by inside the context.

    For a place ``lead`` steps after the newest value: the root mean square of all changes over ``lead`` steps
    between observed values of the context. Where no two values lie that far apart, the deviation over the
    longest lead that has some, grown as a random walk's. (The random walk's square root alone is far too wide for
    vital signs, which return to a level: 80 % bands covered 88 to 91 % on hospital A.)
    """
    seen, y, _ = _parts(context)
    lead = _lead(seen, prediction_length)
    variance = np.zeros_like(lead)
    newest = np.zeros(len(y))  # mean squared change over `steps`, the longest lead so far with any
    steps = np.ones(len(y))
    for lag in range(1, int(lead.max()) + 1):
        both = seen[:, lag:] & seen[:, :-lag]  # empty when the lag reaches beyond the context
        count = both.sum(1)
        square = np.where(both, np.square(y[:, lag:] - y[:, :-lag]), 0).sum(1)
        newest = np.where(count > 0, square / np.maximum(count, 1), newest)
        steps = np.where(count > 0, lag, steps)
        variance = np.where(lead == lag, (newest * lag / steps)[:, None], variance)
    last = np.take_along_axis(y, _latest(seen)[:, -1:], 1)  # [N, 1]
    return np.repeat(last, prediction_length, 1), np.sqrt(variance)


def window_mean(context: FloatArray, prediction_length: int) -> tuple[FloatArray, FloatArray]:
    """Forecast the mean of the context, with the deviation of a new draw around an estimated mean."""
    seen, y, _ = _parts(context)
    count = seen.sum(1)
    mean = y.sum(1) / count
    variance = np.where(seen, np.square(y - mean[:, None]), 0).sum(1) / np.maximum(count - 1, 1)
    sigma = np.sqrt(variance * (1 + 1 / count))
    return _across(mean, prediction_length), _across(sigma, prediction_length)


def linear_trend(context: FloatArray, prediction_length: int) -> tuple[FloatArray, FloatArray]:
    """Continue the least-squares line through the observed values, with its prediction error."""
    seen, y, place = _parts(context)
    count = seen.sum(1, keepdims=True)
    x = np.where(seen, place, 0)
    centre = x.sum(1, keepdims=True) / count  # [N, 1]
    mean = y.sum(1, keepdims=True) / count
    dx, dy = np.where(seen, place - centre, 0), np.where(seen, y - mean, 0)
    spread = np.square(dx).sum(1, keepdims=True)
    known = np.where(spread > 0, spread, 1)
    slope = (dx * dy).sum(1, keepdims=True) / known
    variance = np.square(dy - slope * dx).sum(1, keepdims=True) / np.maximum(count - 2, 1)
    ahead = len(place) + np.arange(prediction_length) - centre  # [N, H]
    return mean + slope * ahead, np.sqrt(variance * (1 + 1 / count + np.square(ahead) / known))


def exponential_smoothing(context: FloatArray, prediction_length: int) -> tuple[FloatArray, FloatArray]:
    """Simple exponential smoothing; each window takes the alpha with the least squared one-step error in its context.

    The level starts at the first observed value; a missing value leaves it as it is.
    """
    seen, y, _ = _parts(context)
    count = seen.sum(1)
    first = np.take_along_axis(y, seen.argmax(1)[:, None], 1)
    level = np.repeat(first, len(ALPHAS), 1)  # [N, A]
    squares = np.zeros_like(level)
    for t in range(y.shape[1]):
        error = np.where(seen[:, t, None], y[:, t, None] - level, 0)  # 0 at the first value by its start
        squares += np.square(error)
        level += ALPHAS * error
    best = squares.argmin(1)[:, None]
    alpha = ALPHAS[best]  # [N, 1]
    variance = np.take_along_axis(squares, best, 1) / np.maximum(count - 2, 1)[:, None]  # count - 1 errors, 1 fitted
    growth = 1 + np.square(alpha) * (_lead(seen, prediction_length) - 1)
    return np.repeat(np.take_along_axis(level, best, 1), prediction_length, 1), np.sqrt(variance * growth)


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "persistence": persistence,
        "window_mean": window_mean,
        "linear_trend": linear_trend,
        "exponential_smoothing": exponential_smoothing,
    }
)


SEASONAL = "seasonal_naive"  # not among the others: it needs to be told the season


def seasonal_quantiles(
    context: NDArray[np.floating], prediction_length: int, quantile_levels: Sequence[float], season: int
) -> FloatArray:
    """Repeat the last season: the newest observed value at each step's phase; ``[N, H, Q]``.

    The deviation is what that would have missed by inside the context: the root mean square of its changes over a
    season, times the square root of the seasons ahead (Hyndman and Athanasopoulos, §5.5). A phase that was never
    observed gets the context's mean, a context without two values a season apart its deviation from it.

    Raises `ConfigError` for a season longer than the context, `DataError` for a context without a value.
    """
    length = context.shape[1]
    if season > length:
        raise ConfigError(
            f"a season of {season} steps does not fit a context of {length}",
            hint="leave season out, or take a longer context_length",
        )
    _refuse_empty(context, SEASONAL)
    seen, y, _ = _parts(context.astype(np.float64))
    count = seen.sum(1)
    mean = y.sum(1) / count
    both = seen[:, season:] & seen[:, :-season]
    changes = np.where(both, np.square(y[:, season:] - y[:, :-season]), 0).sum(1)
    spread = np.where(seen, np.square(y - mean[:, None]), 0).sum(1) / np.maximum(count - 1, 1)
    variance = np.where(both.any(1), changes / np.maximum(both.sum(1), 1), spread)  # [N]
    point = _across(mean, prediction_length)
    ahead = np.ones_like(point)
    for step in range(prediction_length):
        places = np.arange((length + step) % season, length, season)
        newest = np.where(seen[:, places], places, -1).max(1)
        known = newest >= 0
        point[known, step] = y[known, newest[known]]
        ahead[known, step] = (length + step - newest[known]) / season
    return _gaussian(point, np.sqrt(variance[:, None] * ahead), quantile_levels)


def baseline_quantiles(
    name: str, context: NDArray[np.floating], prediction_length: int, quantile_levels: Sequence[float]
) -> FloatArray:
    """Forecast ``[N, H, Q]`` with one of `BASELINES`. Raises `DataError` for a context without a value."""
    _refuse_empty(context, name)
    point, sigma = BASELINES[name](context.astype(np.float64), prediction_length)
    return _gaussian(point, sigma, quantile_levels)


def _refuse_empty(context: NDArray[np.floating], name: str) -> None:
    empty = np.isnan(context).all(1)
    if empty.any():
        raise DataError(f"{int(empty.sum())} of {len(context)} contexts hold no value; {name} needs one")


def _gaussian(point: FloatArray, sigma: FloatArray, quantile_levels: Sequence[float]) -> FloatArray:
    """Return Gaussian quantiles ``[N, H, Q]`` of points and deviations ``[N, H]``."""
    z = np.array([NormalDist().inv_cdf(level) for level in quantile_levels])
    quantiles: FloatArray = point[..., None] + sigma[..., None] * z
    return quantiles


def _parts(context: FloatArray) -> tuple[NDArray[np.bool_], FloatArray, NDArray[np.int64]]:
    """Return what is observed, the values with 0 for missing ones, and the places ``[L]``."""
    seen = ~np.isnan(context)
    return seen, np.where(seen, context, 0), np.arange(context.shape[1])


def _latest(seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ``[N, L]``: the place of the newest observed value up to each place, -1 before the first."""
    return np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), -1), axis=1)


def _lead(seen: NDArray[np.bool_], prediction_length: int) -> FloatArray:
    """Return ``[N, H]``: steps from the newest observed value to each forecast place."""
    lead: FloatArray = seen.shape[1] - _latest(seen)[:, -1:] + np.arange(prediction_length, dtype=np.float64)
    return lead


def _across(value: FloatArray, prediction_length: int) -> FloatArray:
    return np.repeat(value[:, None], prediction_length, 1)
